//! Command lines of the contract are understood, wrong ones are not.

use super::*;
use clap::CommandFactory;

#[test]
fn definition_is_sound() {
    Cli::command().debug_assert();
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn lines_of_the_contract() {
    for line in [
        "restorectl scenario create docs --root /srv/docs=/replica/docs --root /srv/b --type file-server --master prod \
         --exclude *.tmp --exclude /srv/x --capture watch --rewind on --retention 7d --journal-max 50GiB \
         --spool-max 5GiB --auto-resync ask --adopt --hook quiesce=/bin/hold --hook thaw=/bin/go --hook stop=a --hook start=b \
         --hook-timeout 60s",
        "restorectl scenario list",
        "restorectl scenario show docs",
        "restorectl scenario delete docs",
        "restorectl scenario set docs retention=2d rewind=off",
        "restorectl scenario verify docs",
        "restorectl scenario run docs",
        "restorectl scenario run docs --sync block --ignore-same --skip-sync --detach",
        "restorectl scenario run docs --ignore-same=off",
        "restorectl scenario stop docs",
        "restorectl scenario suspend docs",
        "restorectl scenario resume docs",
        "restorectl scenario status docs",
        "restorectl scenario scrub docs --path /srv/docs/a --repair --rate 50MB/s --detach",
        "restorectl flush docs --stage journaled",
        "restorectl flush docs --consistent",
        "restorectl bookmark set docs before --consistent",
        "restorectl scenario set docs hook=quiesce=/bin/hold hook-timeout=5s",
        "restorectl bookmark set docs",
        "restorectl bookmark set docs before --at -10m",
        "restorectl bookmark list docs",
        "restorectl bookmark delete docs before",
        "restorectl points docs --path /srv/** --kind created --kind renamed --since -1h --until 2026-11-21T17:05:00Z --limit 10",
        "restorectl rewind docs --to -10m --onto replica --path /srv/docs/a --path /srv/docs/b --dry-run --yes",
        "restorectl rewind --to before",
        "restorectl rewind docs --to lsn:17.4 --onto /tmp/x",
        "restorectl diff docs before",
        "restorectl diff docs -10m now",
        "restorectl journal stats docs",
        "restorectl journal dump docs --from 3 --to 4.1 --json",
        "restorectl journal verify docs",
        "restorectl journal rebuild docs",
        "restorectl job list --state active",
        "restorectl session copy ab12 --to tape:///dev/nst0",
        "restorectl tape inventory tape:///dev/nst0",
        "restorectl tape label tape:///dev/nst0 --media weekly-7",
        "restorectl tape eject tape:///dev/nst0",
        "restorectl job show 1",
        "restorectl job wait 1",
        "restorectl job cancel 1",
        "restorectl job hold 1",
        "restorectl job release 1",
        "restorectl log --follow --scenario docs --job 1 --since -1h",
        "restorectl restore query *.docx --scenario docs --master prod --session ab12 --since -10d --until -1d --size +10M \
         --deleted --regex --onto /tmp/x --if-exists rename --verify --dry-run --yes --owner ignore --sparse off",
        "restorectl tour",
        "restorectl tour /srv/docs",
        "restorectl explain RW0465",
        "restorectl completions bash",
        "restorectl snapshot create docs --at -10m",
        "restorectl snapshot list --scenario docs",
        "restorectl snapshot show 1-2",
        "restorectl snapshot release 1-2",
        "restorectl snapshot mount docs -10m /mnt/then",
        "restorectl backup docs --to offsite --snapshot 1-2",
        "restorectl man",
        "restorectl --endpoint unix:/x --ca f --cert f --key f --timeout 180s --json -v --color never --progress json flush docs",
        "restorectl flush docs -q --json",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn wrong_lines() {
    for line in [
        "restorectl",
        "restorectl frobnicate",
        "restorectl scenario create docs",
        "restorectl scenario create docs --root /a --retention soon",
        "restorectl scenario create docs --root /a --type oracle",
        "restorectl scenario set docs",
        "restorectl scenario set docs retention",
        "restorectl rewind docs",
        "restorectl points docs --kind exploded",
        "restorectl flush docs --stage halfway",
        "restorectl flush docs --timeout soon",
        "restorectl flush docs --endpoint ftp://x",
        "restorectl flush docs -q -v",
        "restorectl backup docs",
        "restorectl snapshot mount docs",
        "restorectl backup docs --to offsite --snapshot 1-2 --consistent",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}
