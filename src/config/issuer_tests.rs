//! Issuers as they are written, and every way in which they are refused.

use super::*;

/// A configuration with these lines in its file.
fn load(text: &str) -> Result<Config, Vec<String>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let sources = Sources {
        file: Some(file.path().to_owned()),
        environment: vec![("HOME".into(), "/home/someone".into())],
        flags: Vec::new(),
    };
    Config::load(&sources).map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
}

/// One issuer that lacks nothing, with more lines.
fn with(more: &str) -> String {
    format!(
        "[[auth.issuers]]\nname = \"kc\"\nissuer = \"https://id.example.org/realms/a\"\n\
         audience = \"dicom\"\n{more}\n"
    )
}

const FIXED: &str = "partitions = [\"clinic1\"]";

#[test]
fn an_issuer_is_read_whole() {
    let config = load(&with(
        "authorized_parties = [\"viewer\"]\njwks_url = \"https://id.example.org/keys\"\n\
         algorithms = [\"ES256\", \"EdDSA\"]\nsubject_claim = \"oid\"\n\
         partition_template = \"clinic-{org.id}\"\npartition_map = { clinic-7 = [\"north\", \"south\"] }\n\
         roles_claim = [\"https://example.org/roles\"]\nrole_map = { doctor = [\"reader\"] }\n\
         operator_roles = \"root\"\ndefault_roles = [\"auditor\"]\nmfa_claims = [\"acr\"]\n\
         mfa_values = [\"gold\"]\nsmart_scopes = \"grant\"",
    ))
    .unwrap();
    let issuer = &config.auth.issuers[0];
    assert_eq!((&*issuer.name, &*issuer.issuer), ("kc", "https://id.example.org/realms/a"));
    assert_eq!(
        (&*issuer.audience, &*issuer.authorized_parties),
        (&["dicom".to_owned()][..], &["viewer".to_owned()][..])
    );
    assert_eq!(issuer.jwks_url.as_ref().map(url::Url::as_str), Some("https://id.example.org/keys"));
    assert_eq!(issuer.algorithms, [Algorithm::Es256, Algorithm::EdDsa].into());
    assert_eq!(issuer.subject_claim, ClaimPath::of("oid"));
    let PartitionRule::Claim { path, before, after } = &issuer.partitions else { panic!() };
    assert_eq!(
        (&*path.names, &**before, &**after),
        (&["org".to_owned(), "id".to_owned()][..], "clinic-", "")
    );
    assert_eq!(issuer.partition_map.as_ref().unwrap()["clinic-7"].len(), 2);
    let roles = issuer.roles_claim.as_ref().unwrap();
    assert_eq!(
        (&*roles.names, &roles.whole),
        (&["https://example.org/roles".to_owned()][..], &None)
    );
    assert_eq!(issuer.role_map.as_ref().unwrap()["doctor"], ["reader"]);
    assert!(issuer.operator_roles.contains("root") && issuer.mfa_values.contains("gold"));
    assert_eq!(issuer.smart_scopes, SmartScopes::Grant);
    // It is shown as it would be read again.
    let shown = config.effective().lines().find(|line| line.starts_with("issuers = ")).unwrap();
    assert!(shown.contains("partition_template"), "{shown}");
    assert!(config.effective().parse::<Table>().is_ok());
}

#[test]
fn defaults_are_the_usual_claims_and_all_algorithms() {
    let config = load(&with(FIXED)).unwrap();
    let issuer = &config.auth.issuers[0];
    assert_eq!(issuer.algorithms.len(), Algorithm::ALL.len());
    assert_eq!(issuer.subject_claim, ClaimPath::of("sub"));
    assert_eq!(issuer.mfa_claims, [ClaimPath::of("amr"), ClaimPath::of("acr")]);
    assert_eq!(issuer.smart_scopes, SmartScopes::Limit);
    let every = load(&with("partitions = \"*\"")).unwrap();
    assert_eq!(every.auth.issuers[0].partitions, PartitionRule::Every);
}

#[test]
fn the_environment_can_name_issuers_as_a_file_does() {
    let list =
        r#"[{name = "kc", issuer = "http://127.0.0.1:1", audience = "a", partitions = "*"}]"#;
    let environment =
        vec![("HOME".into(), "/x".into()), ("COLLIMATOR__AUTH__ISSUERS".into(), list.into())];
    let config = Config::load(&Sources { environment, ..Sources::default() }).unwrap();
    assert_eq!(config.auth.issuers[0].name, "kc");
}

#[test]
fn what_is_wrong_is_told_by_issuer_and_key() {
    let long = "x".repeat(65);
    let cases: &[(&str, &str)] = &[
        ("audience = []", "audience"),
        ("algorithms = [\"none\"]", "algorithms"),
        ("algorithms = [\"HS256\"]", "algorithms"),
        ("algorithms = []", "algorithms"),
        ("issuer = \"http://id.example.org\"", "issuer"),
        ("issuer = \"https://u:p@id.example.org\"", "issuer"),
        ("issuer = \"https://id.example.org?x=1\"", "issuer"),
        ("issuer = \"id.example.org\"", "issuer"),
        ("jwks_url = \"http://id.example.org/keys\"", "jwks_url"),
        ("jwks_url = 7", "jwks_url"),
        ("name = \"link\"", "name"),
        ("partitions = [\"No such!\"]", "partitions"),
        ("partition_template = \"{a}-{b}\"", "partition_template"),
        ("partition_template = \"clinic\"", "partition_template"),
        ("roles_claim = []", "roles_claim"),
        ("role_map = { a = \"operator\" }\nroles_claim = \"r\"", "role_map"),
        ("role_map = { a = 7 }\nroles_claim = \"r\"", "role_map"),
        ("default_roles = [\"operator\"]", "default_roles"),
        ("smart_scopes = \"some\"", "smart_scopes"),
        ("allow_http = \"yes\"", "allow_http"),
    ];
    let owned = [(format!("default_roles = \"{long}\""), "default_roles")];
    let more = owned.iter().map(|(line, key)| (line.as_str(), *key));
    for (line, key) in cases.iter().copied().chain(more) {
        let name = line.split(" =").next().unwrap();
        let base = with(if line.starts_with("partition") { "" } else { FIXED });
        let others: Vec<&str> =
            base.lines().filter(|other| !other.starts_with(&format!("{name} ="))).collect();
        let told = load(&format!("{}\n{line}\n", others.join("\n"))).unwrap_err();
        let start = format!(
            "auth.issuers.{}.{key} must be ",
            if line.contains("link") { "link" } else { "kc" }
        );
        assert!(told[0].starts_with(&start), "{line}: {told:?}");
    }
}

#[test]
fn what_is_missing_does_not_go_together_or_is_unknown_is_told() {
    for (text, expected) in [
        (with(""), "auth.issuers.kc: exactly one of partitions"),
        (with(&format!("{FIXED}\npartition_claim = \"t\"")), "auth.issuers.kc: exactly one of"),
        (
            with(&format!("{FIXED}\noperator_roles = \"x\"")),
            "auth.issuers.kc: role_map and operator",
        ),
        (with(&format!("{FIXED}\npartition_map = {{}}")), "auth.issuers.kc: partition_map needs"),
        (
            with(&format!("{FIXED}\nrole_claim = \"x\"")),
            "auth.issuers.kc: there is no key role_claim; did you mean roles_claim?",
        ),
        (format!("{0}{0}", with(FIXED)), "auth.issuers.kc: another issuer has the same name"),
        ("[[auth.issuers]]\n".to_owned(), "auth.issuers[0]: exactly one of partitions"),
        ("[auth]\nissuers = [1]\n".to_owned(), "must be a list of tables"),
        (
            "[auth]\nenabled = true\napi_keys = false\n".to_owned(),
            "auth.enabled needs somebody who vouches",
        ),
    ] {
        let told = load(&text).unwrap_err();
        assert!(told.iter().any(|line| line.contains(expected)), "{expected}: {told:?}");
    }
    let missing = load("[[auth.issuers]]\npartitions = \"*\"\n").unwrap_err();
    assert_eq!(missing.len(), 3, "{missing:?}");
    let on = load(&format!("[auth]\nenabled = true\n{}", with(FIXED))).unwrap();
    assert!(on.auth.enabled);
}

#[test]
fn plain_http_is_for_this_machine_unless_it_is_allowed() {
    for url in ["http://127.0.0.1:8080", "http://[::1]/r", "http://localhost:1"] {
        let text = with(FIXED).replace("https://id.example.org/realms/a", url);
        assert!(load(&text).is_ok(), "{url}");
    }
    let text = with(FIXED).replace("https://id", "http://id");
    assert!(load(&text).is_err());
    assert!(load(&format!("{text}allow_http = true\n")).is_ok());
    // A name that only looks like this machine's.
    let text = with(FIXED).replace("https://id.example.org", "http://localhost.example.org");
    assert!(load(&text).is_err());
}
