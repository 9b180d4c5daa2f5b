use std::path::Path;

use super::*;

fn load(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kanade.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file))
        .map_err(|error| ConfigError(error.0.replace(&file.display().to_string(), "kanade.toml")))
}

#[test]
fn an_empty_file_is_the_default_deployment() {
    assert_eq!(load("").unwrap(), Config::default());
}

#[test]
fn each_wrong_value_is_told_in_one_line_with_file_key_and_what_is_allowed() {
    for (text, parts) in [
        ("stroe = 1", &["kanade.toml", "stroe", "store"][..]),
        ("[server]\nbnid = 'x'", &["kanade.toml", "server", "bnid", "bind"]),
        (
            "[server]\nbind = 'here'",
            &["kanade.toml", "`server.bind`", "socket address"],
        ),
        (
            "[store]\nkind = 'sqlit'",
            &["kanade.toml", "`store", "sqlit", "sqlite", "redb", "memory"],
        ),
        (
            "[store]\nkind = 'redb'\npth = 'x'",
            &["kanade.toml", "store", "pth", "path"],
        ),
        (
            "[kill]\nwindow = 'soon'",
            &["kanade.toml", "`kill.window`", "soon", "30s"],
        ),
        ("[kill]\nrepeat = '0s'", &["`kill.repeat`", "zero"]),
        ("[server\nbind = 1", &["kanade.toml", "line 1"]),
        (
            "[server]\nbind = '0.0.0.0:80'",
            &["`auth.mode`", "loopback", "token"],
        ),
        ("[auth]\nmode = 'token'", &["`auth.tokens`", "needs at least one"]),
        ("[auth]\nmode = 'jwt'", &["`auth.jwt_secret`", "jwt_secret_file"]),
        (
            "[auth]\nmode = 'token'\ntokens = [{name = 'a', token = 'short'}]",
            &["auth.tokens[0].token", "16"],
        ),
        (
            "[auth]\nmode = 'jwt'\njwt_secret_file = '/no/such'",
            &["`auth.jwt_secret_file`", "/no/such"],
        ),
        (
            "[store]\nkind = 'redb'\npath = 'x'\n[catalog]\nkind = 'sqlite'\npath = 'x'",
            &["`catalog.path`", "another kind"],
        ),
        ("[bus]\nkind = 'nats'", &["`catalog.kind`", "`nats` is wanted"]),
        ("[nats]\nurl = ' , '", &["`nats.url`", "nats://host:4222"]),
        ("[nats]\nurl = 'nats://a:b@c'", &["`nats.url`", "`password_file`"]),
        ("[nats]\nuser = 'a'", &["`nats.user`", "`password`"]),
        (
            "[nats]\ntoken = 'a'\ncreds = 'b'",
            &["`nats`", "`token` and `creds`", "one is wanted"],
        ),
        ("[nats]\ntls = { cert = 'a' }", &["`nats.tls`", "`key`"]),
        ("[nats]\nreplicas = 0", &["`nats.replicas`", "1 to 5"]),
        (
            "[nats]\npassword_file = '/no/such'",
            &["`nats.password_file`", "/no/such"],
        ),
    ] {
        let error = load(text).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Some(Path::new("/no/such.toml")))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("/no/such.toml: "), "{error}");
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "a-very-secret-token\n").unwrap();
    let text = format!(
        "[auth]\nmode = 'token'\ntokens = [{{name = 'ops', token_file = '{}'}}]",
        file.display()
    );
    let config = load(&text).unwrap();
    assert_eq!(
        config.auth.tokens[0].token.as_ref().unwrap().expose(),
        "a-very-secret-token"
    );
    assert!(!format!("{config:?}").contains("very-secret"));
    assert!(!toml::to_string(&config).unwrap().contains("very-secret"));
}

#[test]
fn the_profiles_that_come_with_kanade_are_valid() {
    for profile in ["single-node.toml", "edge.toml", "fleet-nats.toml", "test.toml"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../config")
            .join(profile);
        Config::load(Some(&file)).unwrap_or_else(|error| panic!("{error}"));
    }
}
