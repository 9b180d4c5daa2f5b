//! Parameters of a job: what a manifest declares, and whether what a caller supplies fits.
//!
//! A value reaches the script as an environment variable and never becomes part of its text, so no value can change
//! what runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Number;

use crate::Invalid;

/// The parameters that a manifest declares, by name.
pub type Params = BTreeMap<String, Param>;
/// What a caller supplies, by name.
pub type ParamValues = BTreeMap<String, ParamValue>;

/// The most parameters of a job.
const MOST: usize = 64;
/// The longest name.
const LONGEST_NAME: usize = 63;
/// The most bytes of one value. Windows gives a variable no more than 32,767 characters.
const LONGEST_VALUE: usize = 16 * 1024;
/// The most bytes of all values together.
const LARGEST: usize = 64 * 1024;
const LONGEST_DESCRIPTION: usize = 1024;
const LONGEST_PATTERN: usize = 1024;
/// The most bytes that a compiled pattern may take.
const LARGEST_PATTERN: usize = 256 * 1024;
const MOST_CHOICES: usize = 256;
/// Beyond this, a number that is not written as a whole one is no longer exact.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// What stands for a secret value wherever people look.
const HIDDEN: &str = "•••";

/// One parameter of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Param {
    /// What its values are.
    #[serde(rename = "type")]
    pub kind: ParamType,
    /// What it is for, in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The value when none is supplied. Not for a secret: documents are not secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub default: Option<ParamValue>,
    /// Whether a fire without a value is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// A regular expression that a string must match from its first character to its last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What a choice chooses from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// The least that a number may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub min: Option<Number>,
    /// The most that a number may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub max: Option<Number>,
    /// Whether its value is kept from everybody but the script: sealed in the store, and never shown or logged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

/// What the values of a parameter are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ParamType {
    /// Any text, as far as its pattern allows.
    #[default]
    String,
    /// A number, whole or not.
    Number,
    /// `true` or `false`.
    Bool,
    /// One of its choices.
    Choice,
}

/// A value as it was written: a text, a number, true or false. It may be secret, so its debug form does not tell it.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ParamValue {
    /// A text; also how a command line writes numbers, true and false.
    Text(String),
    /// A number.
    Number(Number),
    /// True or false.
    Bool(bool),
}

/// A text for an environment variable. It may be secret, so its debug form does not tell it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ParamText(pub String);

/// The values of one fire, each in its canonical text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    /// Those that may be seen.
    pub plain: BTreeMap<String, ParamText>,
    /// Those that may not.
    pub secret: BTreeMap<String, ParamText>,
}

impl Resolved {
    /// Whether a script gets anything at all.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.secret.is_empty()
    }
}

/// The environment variable that a parameter arrives in. None for what cannot be the name of one.
pub fn variable(name: &str) -> Option<String> {
    is_name(name).then(|| format!("KANADE_PARAM_{}", name.to_ascii_uppercase()))
}

/// Whether these are parameters that a job may declare.
///
/// # Errors
/// Names the first field that is wrong, as `params.region.pattern`.
pub fn check(params: &Params) -> Result<(), Invalid> {
    if params.len() > MOST {
        let found = format!("{} parameters", params.len());
        return Err(Invalid::new("params", found, format!("{MOST} at most")));
    }
    for (name, param) in params {
        if !is_name(name) {
            return Err(Invalid::new(
                field(name),
                name,
                format!(
                    "a small letter, then small letters, digits and `_`, {LONGEST_NAME} characters at most"
                ),
            ));
        }
        param.check().map_err(|error| error.within(&field(name)))?;
    }
    Ok(())
}

/// The values that a fire gives to the script: what is supplied, and defaults for the rest.
///
/// # Errors
/// Names the parameter, as `params.region`, with the value unless that is secret.
pub fn resolve(params: &Params, supplied: &ParamValues) -> Result<Resolved, Invalid> {
    // A catalog may hold what we would not have stored.
    check(params)?;
    if let Some(name) = supplied.keys().find(|name| !params.contains_key(*name)) {
        return Err(Invalid::new(field(name), HIDDEN, declared(params)));
    }
    let mut resolved = Resolved::default();
    let mut size = 0;
    for (name, param) in params {
        let value = match supplied.get(name).or(param.default.as_ref()) {
            Some(value) => value,
            None if param.required => {
                return Err(Invalid::new(field(name), "", "it is required; supply a value"));
            }
            None => continue,
        };
        let text = param.accept(value).map_err(|allowed| {
            let shown = if param.secret {
                HIDDEN.to_owned()
            } else {
                value.to_text()
            };
            Invalid::new(field(name), shown, allowed)
        })?;
        size += text.len();
        if size > LARGEST {
            let allowed = format!("{} KiB of values at most, taken together", LARGEST / 1024);
            return Err(Invalid::new("params", HIDDEN, allowed));
        }
        let texts = if param.secret {
            &mut resolved.secret
        } else {
            &mut resolved.plain
        };
        texts.insert(name.clone(), ParamText(text));
    }
    Ok(resolved)
}

/// Whether a schedule may fire the job with what it supplies. Schedules are stored in clear, so they supply no secrets.
///
/// # Errors
/// As [`resolve`].
pub fn check_scheduled(params: &Params, supplied: &ParamValues) -> Result<(), Invalid> {
    for (name, param) in params.iter().filter(|(_, param)| param.secret) {
        let allowed = if supplied.contains_key(name) {
            "no value: it is secret, and a schedule is stored in clear"
        } else if param.required {
            "a job without it: it is secret and required, and a schedule, which is stored in clear, cannot supply it"
        } else {
            continue;
        };
        return Err(Invalid::new(field(name), HIDDEN, allowed));
    }
    resolve(params, supplied).map(drop)
}

impl Param {
    /// Paths are relative to the parameter.
    fn check(&self) -> Result<(), Invalid> {
        use ParamType::{Choice, Number};
        let only_for = |set: bool, kind: ParamType, field: &str| match set && self.kind != kind {
            true => Err(Invalid::new(
                field,
                "",
                format!("it is for the type `{}` only", kind.as_str()),
            )),
            false => Ok(()),
        };
        only_for(self.pattern.is_some(), ParamType::String, "pattern")?;
        only_for(!self.choices.is_empty(), Choice, "choices")?;
        only_for(self.min.is_some(), Number, "min")?;
        only_for(self.max.is_some(), Number, "max")?;
        bounded("description", self.description.as_deref(), LONGEST_DESCRIPTION)?;
        bounded("pattern", self.pattern.as_deref(), LONGEST_PATTERN)?;
        if let Some(pattern) = &self.pattern {
            anchored(pattern).map_err(|why| Invalid::new("pattern", pattern, why))?;
        }
        self.check_choices()?;
        if let (Some(min), Some(max)) = (&self.min, &self.max)
            && min.as_f64() > max.as_f64()
        {
            return Err(Invalid::new(
                "max",
                max.to_string(),
                format!("not less than `min`, {min}"),
            ));
        }
        let Some(default) = &self.default else {
            return Ok(());
        };
        if self.secret {
            let allowed = "no default: documents are not secret; supply the value at each fire";
            return Err(Invalid::new("default", HIDDEN, allowed));
        }
        if self.required {
            let allowed = "no default: what is required is supplied at each fire";
            return Err(Invalid::new("default", default.to_text(), allowed));
        }
        match self.accept(default) {
            Ok(_) => Ok(()),
            Err(allowed) => Err(Invalid::new("default", default.to_text(), allowed)),
        }
    }

    fn check_choices(&self) -> Result<(), Invalid> {
        if self.kind == ParamType::Choice && !(1..=MOST_CHOICES).contains(&self.choices.len()) {
            let found = format!("{} choices", self.choices.len());
            return Err(Invalid::new(
                "choices",
                found,
                format!("1 to {MOST_CHOICES} of them"),
            ));
        }
        let mut seen = BTreeSet::new();
        for choice in &self.choices {
            if let Err(allowed) = text(choice) {
                return Err(Invalid::new("choices", choice, allowed));
            }
            if !seen.insert(choice) {
                return Err(Invalid::new("choices", choice, "each choice once"));
            }
        }
        let size: usize = self.choices.iter().map(String::len).sum();
        if size > LONGEST_VALUE {
            let allowed = format!("{} KiB of choices at most", LONGEST_VALUE / 1024);
            return Err(Invalid::new("choices", "", allowed));
        }
        Ok(())
    }

    /// The canonical text of a value, or what would be accepted instead.
    fn accept(&self, value: &ParamValue) -> Result<String, String> {
        match self.kind {
            ParamType::String => {
                let text = text(&value.to_text())?;
                match &self.pattern {
                    Some(pattern) if !anchored(pattern)?.is_match(&text) => {
                        Err(format!("a text that matches `{pattern}` as a whole"))
                    }
                    _ => Ok(text),
                }
            }
            ParamType::Number => self.accept_number(value),
            ParamType::Bool => match value {
                ParamValue::Bool(value) => Ok(value.to_string()),
                ParamValue::Text(text) if text == "true" || text == "false" => Ok(text.clone()),
                _ => Err("`true` or `false`".to_owned()),
            },
            ParamType::Choice => {
                let text = value.to_text();
                if self.choices.contains(&text) {
                    Ok(text)
                } else {
                    Err(format!("one of: {}", self.choices.join(", ")))
                }
            }
        }
    }

    fn accept_number(&self, value: &ParamValue) -> Result<String, String> {
        let wanted = || match (&self.min, &self.max) {
            (Some(min), Some(max)) => format!("a number from {min} to {max}"),
            (Some(min), None) => format!("a number, {min} or more"),
            (None, Some(max)) => format!("a number, {max} or less"),
            (None, None) => "a number".to_owned(),
        };
        let number = match value {
            ParamValue::Number(number) => canonical(&number.to_string()),
            ParamValue::Text(text) => canonical(text),
            ParamValue::Bool(_) => None,
        };
        let (text, size) = number.ok_or_else(wanted)?;
        let bound = |bound: &Option<Number>| bound.as_ref().and_then(Number::as_f64);
        if bound(&self.min).is_some_and(|min| size < min) || bound(&self.max).is_some_and(|max| size > max) {
            return Err(wanted());
        }
        Ok(text)
    }
}

/// A number in the one way that we write it, and its size: `007` is `7`, `2.50` is `2.5`, `1e3` is `1000`.
fn canonical(text: &str) -> Option<(String, f64)> {
    if let Ok(whole) = text.parse::<i64>() {
        let text = whole.to_string();
        let size = text.parse().ok()?;
        return Some((text, size));
    }
    // Words like `inf` are numbers to a parser and to nobody else.
    let is_written_as_number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let size = text.parse::<f64>().ok().filter(|_| is_written_as_number)?;
    // Adding makes a negative zero a zero.
    (size.abs() <= EXACT).then(|| ((size + 0.0).to_string(), size))
}

/// A text that an environment variable can hold.
fn text(text: &str) -> Result<String, String> {
    if text.len() > LONGEST_VALUE {
        Err(format!("{} KiB at most", LONGEST_VALUE / 1024))
    } else if text.contains('\0') {
        Err("a text without the character NUL, which an environment variable cannot hold".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// The pattern as an expression that matches whole texts only.
fn anchored(pattern: &str) -> Result<Regex, String> {
    let compile = |pattern: &str| {
        RegexBuilder::new(pattern)
            .size_limit(LARGEST_PATTERN)
            .dfa_size_limit(LARGEST_PATTERN)
            .build()
            .map_err(|error| format!("a regular expression is wanted: {error}"))
    };
    // Alone first: with the anchors around it, `a)|(b` would be an expression, and not be anchored.
    compile(pattern)?;
    compile(&format!(r"\A(?:{pattern})\z"))
}

fn bounded(field: &str, text: Option<&str>, limit: usize) -> Result<(), Invalid> {
    match text {
        Some(text) if text.len() > limit => Err(Invalid::new(field, text, format!("{limit} bytes at most"))),
        _ => Ok(()),
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn field(name: &str) -> String {
    format!("params.{name}")
}

fn declared(params: &Params) -> String {
    let names: Vec<&str> = params.keys().map(String::as_str).collect();
    if names.is_empty() {
        "no such parameter: the job declares none".to_owned()
    } else {
        format!("no such parameter; the job declares: {}", names.join(", "))
    }
}

impl ParamType {
    /// The name as it is written in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::Choice => "choice",
        }
    }
}

impl ParamValue {
    fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
        }
    }
}

impl From<&str> for ParamValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl fmt::Debug for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Debug for ParamText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// By hand, because an error must not tell the value.
impl<'de> Deserialize<'de> for ParamValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ParamValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false")
            }

            fn visit_bool<E>(self, value: bool) -> Result<ParamValue, E> {
                Ok(ParamValue::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<ParamValue, E> {
                Ok(ParamValue::Number(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<ParamValue, E> {
                Ok(ParamValue::Number(value.into()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<ParamValue, E> {
                let number = Number::from_f64(value).ok_or_else(|| E::custom("a finite number is wanted"))?;
                Ok(ParamValue::Number(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<ParamValue, E> {
                Ok(ParamValue::Text(text.to_owned()))
            }
        }
        from.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests;
