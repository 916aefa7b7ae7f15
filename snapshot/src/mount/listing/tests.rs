//! Reading a directory in pieces of any size, from any place, gives what reading it at once gives.

use super::*;

/// Entries in pages of three.
struct Three(Vec<(Name, NodeId)>);

impl Pages for Three {
    fn page(&self, after: Option<&Name>) -> Result<Vec<(Name, NodeId)>, JournalError> {
        let behind = self.0.iter().filter(|(name, _)| after.is_none_or(|after| name > after));
        Ok(behind.take(3).cloned().collect())
    }

    fn kind(&self, _: NodeId) -> Result<FileType, JournalError> {
        Ok(FileType::RegularFile)
    }
}

fn entries(count: u64) -> Three {
    Three((0..count).map(|n| (Name::new(format!("{n:03}").as_bytes()).unwrap(), NodeId(5000 + n))).collect())
}

/// Names from `offset` on, at most `room`, and where to go on.
fn give(listing: &mut Listing, pages: &Three, offset: u64, room: usize) -> (Vec<String>, u64) {
    let (mut names, mut next) = (Vec::new(), offset);
    let full = |entry: Listed<'_>| {
        if names.len() == room {
            return true;
        }
        names.push(String::from_utf8(entry.name.to_vec()).unwrap());
        next = entry.next;
        false
    };
    listing.give(pages, offset, full).unwrap();
    (names, next)
}

#[test]
fn any_pieces() {
    for count in [0, 1, 3, 4, 11] {
        let pages = entries(count);
        let all = give(&mut Listing::new(1, 1), &pages, 0, usize::MAX).0;
        assert_eq!(all.len() as u64, count + 2);
        for room in 1..6 {
            let (mut listing, mut read, mut offset) = (Listing::new(1, 1), Vec::new(), 0);
            loop {
                let (names, next) = give(&mut listing, &pages, offset, room);
                if names.is_empty() {
                    break;
                }
                read.extend(names);
                offset = next;
            }
            assert_eq!(read, all, "{count} entries, {room} at a time");
        }
    }
}

#[test]
fn from_anywhere() {
    let pages = entries(11);
    let all = give(&mut Listing::new(1, 1), &pages, 0, usize::MAX).0;
    let mut listing = Listing::new(1, 1);
    for offset in [9, 2, 12, 0, 13, 14, 400, 7] {
        let (names, _) = give(&mut listing, &pages, offset, usize::MAX);
        assert_eq!(names, all.get(offset as usize..).unwrap_or_default(), "from {offset}");
    }
}
