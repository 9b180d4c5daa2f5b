use super::*;
use serde_json::{Value, json};

fn declared_as(param: &Value) -> Params {
    serde_json::from_value(json!({ "p": param })).unwrap()
}

fn supplied(values: Value) -> ParamValues {
    serde_json::from_value(values).unwrap()
}

/// The text that the script gets, or what is wrong.
fn accepted(param: &Value, value: &Value) -> Result<String, Invalid> {
    let resolved = resolve(&declared_as(param), &supplied(json!({ "p": value })))?;
    let Resolved {
        mut plain,
        mut secret,
    } = resolved;
    Ok(plain.remove("p").or_else(|| secret.remove("p")).unwrap().0)
}

#[test]
fn values_that_fit_arrive_in_their_canonical_text() {
    let number = || json!({"type": "number"});
    for (param, value, text) in [
        (
            json!({"type": "string"}),
            json!("it's \"$HOME\"\n`x`"),
            "it's \"$HOME\"\n`x`",
        ),
        (json!({"type": "string"}), json!(""), ""),
        (json!({"type": "string"}), json!(7), "7"),
        (
            json!({"type": "string", "pattern": "[a-z]+|[0-9]"}),
            json!("abc"),
            "abc",
        ),
        (json!({"type": "string", "pattern": "a|ab"}), json!("ab"), "ab"),
        (number(), json!(7), "7"),
        (number(), json!("007"), "7"),
        (number(), json!("-0.0"), "0"),
        (number(), json!("2.50"), "2.5"),
        (number(), json!(1e3), "1000"),
        (number(), json!("1e3"), "1000"),
        (number(), json!(i64::MAX), "9223372036854775807"),
        (
            json!({"type": "number", "min": 1, "max": 2.5}),
            json!("2.5"),
            "2.5",
        ),
        (json!({"type": "bool"}), json!(true), "true"),
        (json!({"type": "bool"}), json!("false"), "false"),
        (
            json!({"type": "choice", "choices": ["eu", "us"]}),
            json!("us"),
            "us",
        ),
        (json!({"type": "choice", "choices": ["1", "2"]}), json!(2), "2"),
        (
            json!({"type": "string", "secret": true}),
            json!("hunter2"),
            "hunter2",
        ),
    ] {
        assert_eq!(accepted(&param, &value).as_deref(), Ok(text), "{param} {value}");
    }
}

#[test]
fn values_that_do_not_fit_are_refused_with_the_field_the_value_and_what_would_fit() {
    for (param, value, shown, allowed) in [
        (
            json!({"type": "string", "pattern": "[a-z]+"}),
            json!("ab1"),
            "ab1",
            "`[a-z]+`",
        ),
        (
            json!({"type": "string", "pattern": "(?m)^a$"}),
            json!("a\nb"),
            "a\nb",
            "as a whole",
        ),
        (json!({"type": "string"}), json!("a\0b"), "a\0b", "NUL"),
        (
            json!({"type": "string"}),
            json!("x".repeat(20_000)),
            &"x".repeat(20_000),
            "16 KiB",
        ),
        (json!({"type": "number"}), json!("seven"), "seven", "a number"),
        (json!({"type": "number"}), json!("inf"), "inf", "a number"),
        (json!({"type": "number"}), json!(""), "", "a number"),
        (json!({"type": "number"}), json!(true), "true", "a number"),
        (
            json!({"type": "number"}),
            json!("99999999999999999999"),
            "99999999999999999999",
            "a number",
        ),
        (
            json!({"type": "number", "min": 1, "max": 5}),
            json!(0),
            "0",
            "from 1 to 5",
        ),
        (
            json!({"type": "number", "max": 5}),
            json!("5.01"),
            "5.01",
            "5 or less",
        ),
        (json!({"type": "bool"}), json!("yes"), "yes", "`true` or `false`"),
        (json!({"type": "bool"}), json!(1), "1", "`true` or `false`"),
        (
            json!({"type": "choice", "choices": ["eu", "us"]}),
            json!("EU"),
            "EU",
            "one of: eu, us",
        ),
    ] {
        let error = accepted(&param, &value).unwrap_err();
        assert_eq!(
            (error.field.as_str(), error.value.as_str()),
            ("params.p", shown),
            "{param}"
        );
        assert!(error.allowed.contains(allowed), "{param} {value}: {error}");
    }
}

#[test]
fn nothing_tells_a_secret_value() {
    let param = json!({"type": "string", "secret": true, "pattern": "[0-9]+"});
    let error = accepted(&param, &json!("hunter2")).unwrap_err();
    assert!(
        !error.to_string().contains("hunter2") && error.value == "•••",
        "{error}"
    );
    let unknown = resolve(&Params::new(), &supplied(json!({"token": "hunter2"}))).unwrap_err();
    assert!(!unknown.to_string().contains("hunter2"), "{unknown}");
    let read = serde_json::from_value::<ParamValues>(json!({"p": ["hunter2"]})).unwrap_err();
    assert!(!read.to_string().contains("hunter2"), "{read}");
    assert_eq!(format!("{:?}", ParamValue::from("hunter2")), "•••");
    assert_eq!(format!("{:?}", ParamText("hunter2".into())), "•••");
}

#[test]
fn missing_values_are_defaults_or_left_out_or_refused() {
    let params: Params = serde_json::from_value(json!({
        "region": {"type": "choice", "choices": ["eu", "us"], "default": "eu"},
        "depth": {"type": "number", "default": 3.0},
        "note": {"type": "string"},
        "token": {"type": "string", "required": true, "secret": true}
    }))
    .unwrap();
    check(&params).unwrap();
    let error = resolve(&params, &ParamValues::new()).unwrap_err();
    assert_eq!(error.field, "params.token");
    assert!(error.allowed.contains("required"), "{error}");
    let resolved = resolve(&params, &supplied(json!({"token": "t"}))).unwrap();
    let texts = |of: &BTreeMap<String, ParamText>| -> Vec<(String, String)> {
        of.iter()
            .map(|(name, text)| (name.clone(), text.0.clone()))
            .collect()
    };
    assert_eq!(
        texts(&resolved.plain),
        [("depth".into(), "3".into()), ("region".into(), "eu".into())]
    );
    assert_eq!(texts(&resolved.secret), [("token".into(), "t".into())]);
    let unknown = resolve(&params, &supplied(json!({"token": "t", "regoin": "eu"}))).unwrap_err();
    assert_eq!(unknown.field, "params.regoin");
    assert!(
        unknown.allowed.contains("depth, note, region, token"),
        "{unknown}"
    );
}

#[test]
fn values_are_bounded_together() {
    let params: Params = (0..5)
        .map(|number| (format!("p{number}"), Param::default()))
        .collect();
    let values = |size: usize| {
        params
            .keys()
            .map(|name| (name.clone(), ParamValue::Text("x".repeat(size))))
            .collect()
    };
    assert!(resolve(&params, &values(13_000)).is_ok());
    assert_eq!(resolve(&params, &values(16_000)).unwrap_err().field, "params");
}

#[test]
fn a_wrong_declaration_is_refused_with_its_field() {
    for (param, field) in [
        (json!({"type": "string", "pattern": "["}), "params.p.pattern"),
        (json!({"type": "string", "pattern": "a)|(b"}), "params.p.pattern"),
        (
            json!({"type": "string", "pattern": "(?x) a # b"}),
            "params.p.pattern",
        ),
        (
            json!({"type": "string", "pattern": r"\w{9000}"}),
            "params.p.pattern",
        ),
        (
            json!({"type": "string", "pattern": "a".repeat(2000)}),
            "params.p.pattern",
        ),
        (json!({"type": "number", "pattern": "1"}), "params.p.pattern"),
        (
            json!({"type": "string", "pattern": "[a-z]", "default": "7"}),
            "params.p.default",
        ),
        (json!({"type": "number", "default": "many"}), "params.p.default"),
        (
            json!({"type": "number", "default": 9, "max": 8}),
            "params.p.default",
        ),
        (json!({"type": "bool", "default": "maybe"}), "params.p.default"),
        (
            json!({"type": "string", "default": "x", "secret": true}),
            "params.p.default",
        ),
        (
            json!({"type": "string", "default": "x", "required": true}),
            "params.p.default",
        ),
        (json!({"type": "choice"}), "params.p.choices"),
        (
            json!({"type": "choice", "choices": ["a", "a"]}),
            "params.p.choices",
        ),
        (
            json!({"type": "choice", "choices": ["a"], "default": "b"}),
            "params.p.default",
        ),
        (json!({"type": "string", "choices": ["a"]}), "params.p.choices"),
        (json!({"type": "string", "min": 1}), "params.p.min"),
        (json!({"type": "number", "min": 2, "max": 1}), "params.p.max"),
        (
            json!({"type": "string", "description": "d".repeat(2000)}),
            "params.p.description",
        ),
    ] {
        let error = check(&declared_as(&param)).unwrap_err();
        assert_eq!(error.field, field, "{param}: {error}");
    }
    for name in ["", "Region", "1st", "_x", "a-b", "a=b", "é", &"n".repeat(64)] {
        let params = Params::from([(name.to_owned(), Param::default())]);
        assert_eq!(check(&params).unwrap_err().field, format!("params.{name}"));
        assert_eq!(variable(name), None);
    }
    let many: Params = (0..65)
        .map(|number| (format!("p{number}"), Param::default()))
        .collect();
    assert_eq!(check(&many).unwrap_err().field, "params");
    assert_eq!(variable("db_host2").as_deref(), Some("KANADE_PARAM_DB_HOST2"));
}

#[test]
fn a_schedule_supplies_what_fits_and_no_secrets() {
    let params: Params = serde_json::from_value(json!({
        "depth": {"type": "number", "required": true},
        "token": {"type": "string", "secret": true}
    }))
    .unwrap();
    let field = |params: &Params, values: Value| {
        check_scheduled(params, &supplied(values)).map_err(|error| error.field)
    };
    assert_eq!(field(&params, json!({"depth": 1})), Ok(()));
    assert_eq!(field(&params, json!({})), Err("params.depth".into()));
    assert_eq!(field(&params, json!({"depth": "x"})), Err("params.depth".into()));
    assert_eq!(
        field(&params, json!({"depth": 1, "token": "t"})),
        Err("params.token".into())
    );
    let mut wanted = params;
    wanted.get_mut("token").unwrap().required = true;
    assert_eq!(field(&wanted, json!({"depth": 1})), Err("params.token".into()));
}

#[test]
fn a_declaration_survives_and_leaves_out_what_is_unset() {
    let full = json!({
        "region": {"type": "choice", "choices": ["eu"], "default": "eu", "description": "where"},
        "depth": {"type": "number", "min": 1, "max": 2.5, "default": 2},
        "name": {"type": "string", "pattern": "x", "required": true},
        "force": {"type": "bool", "default": false},
        "token": {"type": "string", "secret": true}
    });
    let params: Params = serde_json::from_value(full.clone()).unwrap();
    check(&params).unwrap();
    assert_eq!(serde_json::to_value(&params).unwrap(), full);
}
