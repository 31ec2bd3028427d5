//! Arguments, and what is refused.

use clap::CommandFactory;

use super::*;

const ENTRIES: Entries = Entries {
    serve: |config| anyhow::bail!("served at {}", config.server.listen),
    migrate: |config| anyhow::bail!("migrated in {}", config.data.dir.display()),
    audit: |_, asked| Ok(!asked.json && asked.partitions.is_empty()),
    verify: |_, asked| match &asked {
        Asked { quick: true, .. } => Ok(asked.partitions.is_empty()),
        _ => anyhow::bail!("{asked:?}"),
    },
    import: |_, asked| match asked.source.as_str() {
        "whole" => Ok(true),
        "broken" => Ok(false),
        _ => anyhow::bail!("{asked:?}"),
    },
    export: |_, asked| match asked.destination.as_str() {
        "whole" => Ok(true),
        "broken" => Ok(false),
        _ => anyhow::bail!("{asked:?}"),
    },
    keys: |_, asked| anyhow::bail!("{asked:?}"),
};

/// What a command line prints, or how it is refused.
fn outcome(line: &str) -> Result<String, String> {
    let words = std::iter::once("collimator").chain(line.split_whitespace());
    let arguments = Arguments::try_parse_from(words).map_err(|error| error.kind().to_string())?;
    let environment = vec![("HOME".into(), "/home/someone".into())];
    let mut output = Vec::new();
    match execute(arguments, environment, &mut output, ENTRIES) {
        Ok(0) => Ok(String::from_utf8(output).unwrap()),
        Ok(code) => Err(format!("exit code {code}")),
        Err(Refusal::Config(errors)) => Err(errors.to_string()),
        Err(Refusal::Exposed(address)) => Err(exposed(address)),
        Err(Refusal::Failed(error)) => Err(error.to_string()),
    }
}

#[test]
fn the_definition_is_sound_and_help_has_what_it_should() {
    Arguments::command().debug_assert();
    let help = Arguments::command().render_long_help().to_string();
    for part in ["Examples:", "Environment:", "Exit codes:", "--insecure-no-auth", "migrate"] {
        assert!(help.contains(part), "{part}\n{help}");
    }
}

#[test]
fn no_command_means_serve_and_flags_stand_on_either_side() {
    let served = Err("served at 127.0.0.1:9000".to_owned());
    assert_eq!(outcome("--listen 127.0.0.1:9000"), served);
    assert_eq!(outcome("serve --listen 127.0.0.1:9000"), served);
    assert_eq!(outcome("--listen 127.0.0.1:9000 serve"), served);
    assert_eq!(outcome("migrate --data-dir /x"), Err("migrated in /x".to_owned()));
    assert!(outcome("--listne x").is_err() && outcome("config").is_err());
}

#[test]
fn an_address_that_others_reach_needs_a_word() {
    for address in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
        let refused = outcome(&format!("--listen {address}")).unwrap_err();
        assert!(refused.contains("authentication is off"), "{refused}");
        assert!(refused.contains("--insecure-no-auth"), "{refused}");
        let allowed = outcome(&format!("--insecure-no-auth --listen {address}")).unwrap_err();
        assert!(allowed.starts_with("served at"), "{allowed}");
        assert!(outcome(&format!("config check --listen {address}")).is_err());
        assert!(
            outcome(&format!("migrate --listen {address}")).unwrap_err().starts_with("migrated")
        );
    }
    for address in ["127.0.0.1:80", "[::1]:80", "127.9.9.9:80", "[::ffff:127.0.0.1]:80"] {
        assert!(outcome(&format!("--listen {address}")).unwrap_err().starts_with("served"));
    }
}

#[test]
fn with_authentication_any_address_will_do() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let issuer =
        "name = \"a\"\nissuer = \"https://a.example\"\naudience = \"a\"\npartitions = \"*\"";
    std::fs::write(file.path(), format!("[auth]\nenabled = true\n[[auth.issuers]]\n{issuer}\n"))
        .unwrap();
    let line = format!("--listen 0.0.0.0:80 --config {}", file.path().display());
    assert_eq!(outcome(&line), Err("served at 0.0.0.0:80".to_owned()));
    // An issuer alone turns nothing on.
    std::fs::write(file.path(), format!("[[auth.issuers]]\n{issuer}\n")).unwrap();
    assert!(outcome(&line).unwrap_err().contains("authentication is off"));
}

#[test]
fn config_check_prints_what_is_in_effect_or_what_is_wrong() {
    let shown = outcome("config check --data-dir /x/y --listen 127.0.0.1:1").unwrap();
    assert!(shown.contains("dir = \"/x/y\"  # --data-dir"), "{shown}");
    assert!(shown.contains("listen = \"127.0.0.1:1\"  # --listen"), "{shown}");
    let wrong = outcome("config check --listen nowhere --config /nonexistent").unwrap_err();
    assert_eq!(wrong.lines().count(), 2, "{wrong}");
    assert!(wrong.contains("--listen: server.listen must be an IP address"), "{wrong}");
}

#[test]
fn keys_are_asked_for_with_a_partition_and_roles() {
    let line = "key create --partition a --role reader --role writer --expires 90days --name gate";
    let asked = outcome(line).unwrap_err();
    for part in ["Create", r#"["reader", "writer"]"#, r#""gate""#, "Some(7776000s)", "false"] {
        assert!(asked.contains(part), "{part} in {asked}");
    }
    assert!(outcome("key list --partition a").unwrap_err().contains("List"));
    assert!(outcome("key disable --partition a 7").unwrap_err().contains("Disable"));
    for wrong in [
        "key",
        "key create --partition a",
        "key create --role reader",
        "key create --partition a --role reader --expires soon",
        "key list",
        "key disable --partition a",
    ] {
        assert!(!outcome(wrong).unwrap_err().contains("Create"), "{wrong}");
    }
}

#[test]
fn verify_says_by_its_exit_code_what_it_found() {
    assert_eq!(outcome("verify --quick"), Ok(String::new()));
    assert_eq!(outcome("verify --quick --partition a"), Err("exit code 2".to_owned()));
    let asked = outcome("verify --partition a --partition b --rate 2MiB --report f").unwrap_err();
    for part in [r#"["a", "b"]"#, "Some(2097152)", r#"Some("f")"#, "json: false"] {
        assert!(asked.contains(part), "{part} in {asked}");
    }
    assert!(outcome("verify --json --report f").is_err(), "one or the other");
    for rate in ["soon", "0", "0MiB", "-1"] {
        assert!(outcome(&format!("verify --quick --rate {rate}")).is_err(), "{rate}");
    }
}

#[test]
fn import_says_by_its_exit_code_whether_files_failed() {
    assert_eq!(outcome("import whole"), Ok(String::new()));
    assert_eq!(outcome("import broken"), Err("exit code 2".to_owned()));
    let line = "import s3://b/p --partition a --create-partition --dry-run --report f --at-once 8";
    let asked = outcome(line).unwrap_err();
    for part in [r#""s3://b/p""#, r#""a""#, "with_partition: true", "is_dry: true", "Some(8)"] {
        assert!(asked.contains(part), "{part} in {asked}");
    }
    for wrong in ["import", "import a b", "import whole --at-once 0", "import whole --at-once x"] {
        assert!(!outcome(wrong).unwrap_err().starts_with("exit code"), "{wrong}");
    }
}

#[test]
fn export_says_by_its_exit_code_whether_all_was_exported() {
    assert_eq!(outcome("export whole 1.2"), Ok(String::new()));
    assert_eq!(outcome("export broken 1.2 1.3/4"), Err("exit code 2".to_owned()));
    let line = "export s3://b/p --query a=b --level series --partition a --layout dicom \
                --no-dicomdir --deidentify --option dates=shift --option burnt_in=allow --at-once 8";
    let asked = outcome(line).unwrap_err();
    for part in [
        r#""s3://b/p""#,
        r#"Some("a=b")"#,
        r#"level: "series""#,
        r#"partition: "a""#,
        r#"layout: "dicom""#,
        "dicomdir: false",
        r#"Some(["dates=shift", "burnt_in=allow"])"#,
        "Some(8)",
    ] {
        assert!(asked.contains(part), "{part} in {asked}");
    }
    assert!(outcome("export to 1.2").unwrap_err().contains("deidentify: None"));
    for wrong in [
        "export",
        "export to",
        "export to 1.2 --query a=b",
        "export to 1.2 --level series",
        "export to 1.2 --layout zip",
        "export to 1.2 --option dates=shift",
        "export to 1.2 --at-once 0",
    ] {
        assert!(!outcome(wrong).unwrap_err().contains("ExportAsked"), "{wrong}");
    }
}
