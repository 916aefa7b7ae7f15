//! Profiles of credentials as the usual files have them.

use super::*;

const CREDENTIALS: &str = "
# a comment
[default]
aws_access_key_id = ID
aws_secret_access_key=SECRET=WITH=SIGNS

[ other ]
aws_access_key_id=ID2
aws_secret_access_key=SECRET2
aws_session_token=TOKEN2
[half]
aws_access_key_id=ID3
";
const CONFIG: &str = "
[default]
region = eu-central-1
s3 =
  endpoint_url = http://nested.is.not.ours
[profile other]
region=us-west-2
endpoint_url=https://minio.example
[profile role]
role_arn = arn:aws:iam::1:role/x
";

fn read_as(pairs: &[(&str, &str)]) -> Result<Profile, ProfileError> {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join(".aws");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("credentials"), CREDENTIALS).unwrap();
    std::fs::write(directory.join("config"), CONFIG).unwrap();
    let mut pairs = pairs.to_vec();
    pairs.push(("HOME", home.path().to_str().unwrap()));
    read(&Environment::from_pairs(pairs))
}

#[test]
fn the_default_profile() {
    let profile = read_as(&[]).unwrap();
    assert_eq!(profile.keys, Some(("ID".into(), "SECRET=WITH=SIGNS".into())));
    assert_eq!((profile.token, profile.endpoint), (None, None));
    assert_eq!(profile.region.as_deref(), Some("eu-central-1"));
}

#[test]
fn a_named_profile_has_two_files() {
    let profile = read_as(&[("AWS_PROFILE", "other")]).unwrap();
    assert_eq!(profile.keys, Some(("ID2".into(), "SECRET2".into())));
    assert_eq!(profile.token.as_deref(), Some("TOKEN2"));
    assert_eq!(profile.region.as_deref(), Some("us-west-2"));
    assert_eq!(profile.endpoint.as_deref(), Some("https://minio.example"));
}

#[test]
fn profiles_that_cannot_be_used_are_named() {
    assert!(matches!(read_as(&[("AWS_PROFILE", "none")]), Err(ProfileError::NoSuchProfile { .. })));
    assert!(matches!(read_as(&[("AWS_PROFILE", "half")]), Err(ProfileError::HalfAKey { .. })));
    assert!(matches!(
        read_as(&[("AWS_PROFILE", "role")]),
        Err(ProfileError::NotSupported { setting: "role_arn", .. })
    ));
}

#[test]
fn no_files_are_no_profile_and_a_huge_one_is_refused() {
    let empty = read(&Environment::from_pairs([("HOME", "/nonexistent")])).unwrap();
    assert!(empty.keys.is_none() && empty.region.is_none());
    assert!(read(&Environment::default()).unwrap().keys.is_none());

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials");
    std::fs::write(&path, vec![b'#'; FILE_BYTES_MAX as usize + 1]).unwrap();
    let environment = Environment::from_pairs([("AWS_SHARED_CREDENTIALS_FILE", path.to_str().unwrap())]);
    assert!(matches!(read(&environment), Err(ProfileError::TooLarge { .. })));
}
