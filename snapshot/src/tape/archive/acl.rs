//! ACLs as text, for `tar --acls`. The extended attributes `system.posix_acl_*` stand beside it and are what we read
//! back: the kernel's form, exact. An attribute that is not of that form has no text; nothing is lost by that.

const VERSION: u32 = 2;

/// Keyword and text of an ACL; `None` if the attribute is none, or of another form.
pub(super) fn text(name: &[u8], value: &[u8]) -> Option<(&'static str, String)> {
    let keyword = match name {
        b"system.posix_acl_access" => "SCHILY.acl.access",
        b"system.posix_acl_default" => "SCHILY.acl.default",
        _ => return None,
    };
    let (version, entries) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.is_empty() || !entries.len().is_multiple_of(8) {
        return None;
    }
    let mut text = String::new();
    for entry in entries.chunks_exact(8) {
        let [tag, _, permissions, _, id @ ..] = entry else { return None };
        let id = u32::from_le_bytes(id.try_into().ok()?);
        let who = match tag {
            0x01 => "user:".to_owned(),
            0x02 => format!("user:{id}"),
            0x04 => "group:".to_owned(),
            0x08 => format!("group:{id}"),
            0x10 => "mask:".to_owned(),
            0x20 => "other:".to_owned(),
            _ => return None,
        };
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&who);
        text.push(':');
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            text.push(if permissions & bit != 0 { letter } else { '-' });
        }
    }
    Some((keyword, text))
}
