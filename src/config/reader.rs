//! Layers a TOML file, the environment and flags, and reads them key by key, so that every fault is told at once.
//!
//! Not here: which keys there are (see the parent).

use std::{collections::BTreeSet, env, fmt, ops::RangeInclusive, path::PathBuf, time::Duration};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format as _, Toml},
    value::{Dict, Map, Value},
};

use super::{repeated, syntax};
use crate::byte_order_mark;

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_hours(3_650 * 24);

const PREFIX: &str = "ESA_SIDECAR__";
const FLAGS: &str = "flags";
const ENVIRONMENT: &str = "environment";

/// A setting given on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As it is typed, such as `--listen`.
    pub flag: &'static str,
    /// The key it sets.
    pub key: &'static str,
    /// To what.
    pub value: String,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, or nothing when it is about the whole file.
    pub key: String,
    /// Where the key was set.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

/// Everything that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.lines())]
pub struct Faults(pub Vec<Fault>);

/// Reads keys and remembers which were read and what was wrong with them.
pub(super) struct Reader {
    figment: Figment,
    file: Option<PathBuf>,
    flags: Vec<Flag>,
    known: BTreeSet<String>,
    faults: Vec<Fault>,
}

/// What a list may be written as.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Texts {
    Several(Vec<String>),
    One(String),
}

/// Settings that are texts, whatever they look like: a folder may be called `007`.
struct Layer {
    name: &'static str,
    set: Vec<(String, String)>,
}

impl Reader {
    pub(super) fn new(silent: &[&str], file: Option<PathBuf>, flags: Vec<Flag>) -> Result<Self, Faults> {
        let mut figment = Figment::new();
        if let Some(file) = &file {
            let whole = |what: String| {
                Faults(vec![Fault { key: String::new(), place: format!("`{}`", file.display()), what }])
            };
            // Read once: it may be a pipe.
            let text = byte_order_mark::read_to_string(file).map_err(|error| whole(error.to_string()))?;
            if let Some(fault) = syntax::fault(&text) {
                return Err(whole(fault));
            }
            figment = figment.merge(Toml::string(&text));
        }
        let (environment, unreadable) = environment(silent);
        let figment = figment.merge(environment).merge(Layer { name: FLAGS, set: set_by(&flags) });
        let mut reader = Self { figment, file, flags, known: BTreeSet::new(), faults: Vec::new() };
        for key in unreadable {
            reader.fault(&key, "it is not UTF-8; name a file or folder whose name is".to_owned());
        }
        Ok(reader)
    }

    /// A path, if one is set.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.text(key, |text| if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.into()) })
    }

    /// Permissions in octal, as they are typed for `chmod`, if they are set. A number of TOML does not say how it was
    /// written: `0o660` and `432` are the same to it.
    pub(super) fn permissions(&mut self, key: &str) -> Option<u32> {
        self.text(key, |text| {
            let digits = text.strip_prefix("0o").unwrap_or(text);
            let is_octal = !digits.is_empty() && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
            let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
            mode.ok_or_else(|| format!("`{text}` is no permissions in octal, such as `660`"))
        })
    }

    /// A length of time such as `90s`, `5m` or `3d`, from a millisecond to ten years.
    pub(super) fn duration(&mut self, key: &str, default: Duration) -> Duration {
        self.optional_duration(key).unwrap_or(default)
    }

    /// The same, if one is set.
    pub(super) fn optional_duration(&mut self, key: &str) -> Option<Duration> {
        self.optional(key, |text| match duration(text) {
            Ok(duration) if !(SHORTEST..=LONGEST).contains(&duration) => {
                Err(format!("`{text}` is not within 1ms and 3650d"))
            }
            read => read,
        })
    }

    /// A whole number within `range`.
    pub(super) fn number<N>(&mut self, key: &str, default: N, range: RangeInclusive<N>) -> N
    where
        N: Copy + PartialOrd + fmt::Display + TryFrom<i128>,
    {
        self.parsed(key, default, |text| {
            let number = text.parse::<i128>().ok().and_then(|number| N::try_from(number).ok());
            number.filter(|number| range.contains(number)).ok_or_else(|| {
                format!("`{text}` is not a whole number from {} to {}", range.start(), range.end())
            })
        })
    }

    /// Texts in an array, or in one text with commas between them, as the environment has it.
    pub(super) fn list<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        self.known.insert(key.to_owned());
        let texts: Vec<String> = match self.figment.extract_inner::<Texts>(key) {
            Ok(Texts::Several(texts)) => texts,
            Ok(Texts::One(text)) => {
                text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
            }
            Err(_) if !self.figment.contains(key) => Vec::new(),
            Err(_) => {
                self.fault(key, "texts in an array are expected here".to_owned());
                Vec::new()
            }
        };
        let parsed = texts.iter().filter_map(|text| {
            parse(text).map_err(|what| self.fault(key, repeated::without(&what, text))).ok()
        });
        parsed.collect()
    }

    /// `true`, or `false`, which it is unless it is set.
    pub(super) fn truth(&mut self, key: &str) -> bool {
        self.parsed(key, false, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("`{text}` is neither `true` nor `false`")),
        })
    }

    /// Tables in an array, if there are any.
    pub(super) fn tables(&mut self, key: &str) -> Option<Vec<Value>> {
        self.known.insert(key.to_owned());
        if let Value::Array(_, tables) = self.figment.find_value(key).ok()? {
            return Some(tables);
        }
        self.fault(key, format!("tables are expected here, each beginning with `[[{key}]]`"));
        None
    }

    /// Anything else that is written as text, or as a number that reads the same.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// `config`, unless anything was wrong or set without being a key.
    pub(super) fn finish<T>(mut self, config: T) -> Result<T, Faults> {
        match self.figment.extract::<Dict>() {
            Ok(set) => leaves(&set, "").into_iter().for_each(|key| self.require_known(&key)),
            // It would name the value that is wrong.
            Err(_) => self.fault("", "a table of keys is expected here".to_owned()),
        }
        if self.faults.is_empty() { Ok(config) } else { Err(Faults(self.faults)) }
    }

    fn optional<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.known.insert(key.to_owned());
        let value = self.figment.find_value(key).ok()?;
        let parse = |text: &str| parse(text).map_err(|what| repeated::without(&what, text));
        let parsed = match &value {
            Value::String(_, text) => parse(text),
            Value::Num(_, number) => match (number.to_i128(), number.to_u128(), number.to_f64()) {
                (Some(number), _, _) => parse(&number.to_string()),
                (None, Some(number), _) => parse(&number.to_string()),
                (None, None, Some(number)) => parse(&number.to_string()),
                (None, None, None) => Err("this number is not expected here".to_owned()),
            },
            Value::Bool(_, truth) => parse(&truth.to_string()),
            Value::Char(_, character) => parse(&character.to_string()),
            Value::Empty(..) | Value::Dict(..) | Value::Array(..) => {
                Err("a single value is expected here".to_owned())
            }
        };
        parsed.map_err(|what| self.fault(key, what)).ok()
    }

    /// A text, which TOML has in quotes: what a number there was written as is not known any more.
    fn text<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        if matches!(self.figment.find_value(key), Ok(Value::Num(..) | Value::Bool(..))) {
            self.known.insert(key.to_owned());
            self.fault(key, "a text is expected here; write it in quotes, as in \"660\"".to_owned());
            return None;
        }
        self.optional(key, parse)
    }

    fn require_known(&mut self, key: &str) {
        let inside_known = self.known.iter().any(|known| {
            key.strip_prefix(known.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        if inside_known {
            return;
        }
        if key.contains('"') {
            let unquoted = key.replace('"', "");
            let what = format!(
                "a name in quotes is one name, dots and all, and there is no such key; write `{unquoted}`"
            );
            self.fault(key, what);
            return;
        }
        let nearest = self
            .known
            .iter()
            .max_by(|one, other| strsim::jaro_winkler(one, key).total_cmp(&strsim::jaro_winkler(other, key)));
        let hint = nearest.filter(|nearest| 0.8 < strsim::jaro_winkler(nearest, key));
        let hint = hint.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
        self.fault(key, format!("there is no such key{hint}"));
    }

    /// Notes that `key` is wrong.
    pub(super) fn fault(&mut self, key: &str, what: String) {
        self.faults.push(Fault { key: key.to_owned(), place: self.place(key), what });
    }

    fn place(&self, key: &str) -> String {
        match self.figment.find_metadata(key).map(|metadata| metadata.name.as_ref()) {
            Some(FLAGS) => {
                let flag = self.flags.iter().find(|flag| flag.key == key);
                flag.map(|flag| flag.flag.to_owned()).unwrap_or_default()
            }
            Some(ENVIRONMENT) if key.starts_with(PREFIX) => "environment".to_owned(),
            Some(ENVIRONMENT) => format!("{PREFIX}{}", key.replace('.', "__").to_uppercase()),
            _ => self.file.as_ref().map(|file| format!("`{}`", file.display())).unwrap_or_default(),
        }
    }
}

/// A length of time, as people write it. One that could be meant in two ways is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let units = text.split(|character: char| !character.is_ascii_alphabetic());
    if units.into_iter().any(|unit| unit == "M") {
        return Err(format!(
            "`{text}`: `M` may be a minute or a month; write `1m` for a minute, `30d` for a month"
        ));
    }
    humantime::parse_duration(text)
        .map_err(|_| format!("`{text}` is not a length of time; write it like `200ms`, `90s`, `5m` or `3d`"))
}

/// What the environment sets, and the keys it sets to what is no text.
/// What is set in the environment, but for these tables.
fn environment(silent: &[&str]) -> (Layer, Vec<String>) {
    let mut unreadable = Vec::new();
    let variables = env::vars_os().filter_map(|(name, value)| {
        let name = name.to_str()?;
        let key = name.strip_prefix(PREFIX)?.to_lowercase().replace("__", ".");
        // A name that is no path of keys is told as it is, as a key there is not.
        let key = if key.split('.').all(|part| !part.is_empty()) { key } else { name.to_owned() };
        if silent.iter().any(|table| key.split('.').next() == Some(table)) {
            return None;
        }
        if value.to_str().is_none() {
            unreadable.push(key.clone());
        }
        Some((key, value.to_string_lossy().into_owned()))
    });
    (Layer { name: ENVIRONMENT, set: variables.collect() }, unreadable)
}

fn set_by(flags: &[Flag]) -> Vec<(String, String)> {
    flags.iter().map(|flag| (flag.key.to_owned(), flag.value.clone())).collect()
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = self.set.iter().map(|(key, value)| figment::util::nest(key, Value::from(value.clone())));
        let dict = nested.filter_map(Value::into_dict).fold(Dict::new(), merged);
        Ok(Profile::Default.collect(dict))
    }
}

/// `into` with everything of `more`, dictionary by dictionary.
fn merged(mut into: Dict, more: Dict) -> Dict {
    for (key, value) in more {
        let value = match (into.remove(&key), value) {
            (Some(Value::Dict(tag, there)), Value::Dict(_, here)) => Value::Dict(tag, merged(there, here)),
            (_, value) => value,
        };
        into.insert(key, value);
    }
    into
}

/// Dotted paths of everything that is set. A name with a dot in it stands in quotes, as it does in TOML: it is no path.
fn leaves(dict: &Dict, under: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (key, value) in dict {
        let key = if key.contains('.') { &format!("\"{key}\"") } else { key };
        let path = if under.is_empty() { key.clone() } else { format!("{under}.{key}") };
        match value.as_dict() {
            Some(dict) => paths.extend(leaves(dict, &path)),
            None => paths.push(path),
        }
    }
    paths
}

impl Faults {
    fn lines(&self) -> String {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, place, what } = self;
        match (key.is_empty(), place.is_empty()) {
            (false, false) => write!(formatter, "`{key}` ({place}): {what}"),
            (false, true) => write!(formatter, "`{key}`: {what}"),
            (true, _) => write!(formatter, "{place}: {what}"),
        }
    }
}
