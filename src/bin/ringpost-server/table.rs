//! Reads tables of TOML key by key, and says of what is wrong in which line it stands.

use std::fmt;

use toml::de::{DeTable, DeValue};

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The line, from 1 on.
    line: usize,
    why: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

/// A table whose keys are taken one after the other. What is left at the end is unknown.
pub struct Table<'a> {
    text: &'a str,
    /// The name of the table with a dot, or nothing for the file itself.
    name: String,
    entries: DeTable<'a>,
    /// The keys that were asked for.
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// The table that a whole file is.
    pub fn of(text: &'a str) -> Result<Table<'a>, Wrong> {
        match DeTable::parse(text) {
            Ok(entries) => {
                Ok(Table { text, name: String::new(), entries: entries.into_inner(), known: Vec::new() })
            }
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                Err(wrong(text, at, format!("not TOML: {}", error.message().replace('\n', " "))))
            }
        }
    }

    fn take(&mut self, key: &'static str) -> Option<(usize, DeValue<'a>)> {
        self.known.push(key);
        let value = self.entries.remove(key)?;
        Some((value.span().start, value.into_inner()))
    }

    /// What is wrong with the value of a key.
    fn wrong(&self, at: usize, key: &str, why: impl fmt::Display) -> Wrong {
        wrong(self.text, at, format!("{}{key}: {why}", self.name))
    }

    /// Takes a value that is a text or a number, and parses it as on the command line.
    pub fn value<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Wrong> {
        let Some((at, value)) = self.take(key) else { return Ok(None) };
        let parsed = text_of(&value).and_then(|text| parse(&text));
        parsed.map(Some).map_err(|why| self.wrong(at, key, why))
    }

    /// Takes a list of such values; a single one is a list, too.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Wrong> {
        let Some((at, value)) = self.take(key) else { return Ok(Vec::new()) };
        let values = match value {
            DeValue::Array(values) => values.into_iter().map(|v| (v.span().start, v.into_inner())).collect(),
            single => vec![(at, single)],
        };
        let parse = |(at, value): &(usize, DeValue<'_>)| {
            let text = text_of(value).map_err(|why| self.wrong(*at, key, why))?;
            parse(&text).map_err(|why| self.wrong(*at, key, format!("{text:?}: {why}")))
        };
        values.iter().map(parse).collect()
    }

    /// Takes `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Result<Option<bool>, Wrong> {
        match self.take(key) {
            None => Ok(None),
            Some((_, DeValue::Boolean(flag))) => Ok(Some(flag)),
            Some((at, _)) => Err(self.wrong(at, key, "write true or false")),
        }
    }

    /// Takes a table. Without one it is empty.
    pub fn table(&mut self, key: &'static str) -> Result<Table<'a>, Wrong> {
        match self.take(key) {
            None => Ok(self.inner(key, DeTable::default())),
            Some((_, DeValue::Table(entries))) => Ok(self.inner(key, entries)),
            Some((at, _)) => {
                Err(self.wrong(at, key, format!("this is a section: write [{}{key}]", self.name)))
            }
        }
    }

    /// Takes an array of tables, each with the line in which it begins.
    pub fn tables(&mut self, key: &'static str) -> Result<Vec<Table<'a>>, Wrong> {
        let mut tables = Vec::new();
        let Some((at, value)) = self.take(key) else { return Ok(tables) };
        let why = || format!("this is a list of sections: write [[{}{key}]]", self.name);
        let DeValue::Array(values) = value else { return Err(self.wrong(at, key, why())) };
        for value in values {
            let at = value.span().start;
            let DeValue::Table(entries) = value.into_inner() else {
                return Err(self.wrong(at, key, why()));
            };
            tables.push(self.inner(key, entries));
        }
        Ok(tables)
    }

    fn inner(&self, key: &str, entries: DeTable<'a>) -> Table<'a> {
        Table { text: self.text, name: format!("{}{key}.", self.name), entries, known: Vec::new() }
    }

    /// Refuses what was not taken, with the name that may have been meant.
    pub fn end(self) -> Result<(), Wrong> {
        let Some(unknown) = self.entries.keys().min_by_key(|key| key.span().start) else { return Ok(()) };
        let key: &str = unknown.get_ref();
        let near = self.known.iter().map(|known| (distance(key, known), known)).min();
        let hint = match near {
            // A third of the letters may differ.
            Some((distance, near)) if distance <= 1 + key.chars().count() / 3 => {
                format!("did you mean {near}?")
            }
            _ => format!("here may be {}", self.known.join(", ")),
        };
        Err(wrong(self.text, unknown.span().start, format!("{}{key} is not known: {hint}", self.name)))
    }
}

fn wrong(text: &str, at: usize, why: String) -> Wrong {
    let before = text.get(..at).unwrap_or(text);
    Wrong { line: before.matches('\n').count() + 1, why }
}

/// A value as it would stand on the command line.
fn text_of(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| format!("{number} is too large")),
        other => Err(format!("a text or a number must be here, not {}", kind(other))),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// How many letters must be changed, added or left out to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (place, letter) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = place + 1;
        for at in 0..other.len() {
            let changed = corner + usize::from(other[at] != letter);
            corner = row[at + 1];
            row[at + 1] = changed.min(row[at] + 1).min(corner + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Result<u32, String> {
        text.parse().map_err(|_| format!("{text:?} is no number"))
    }

    #[test]
    fn values_are_read_as_on_the_command_line() {
        let text = "a = 5\nb = \"6\"\nlist = [7, \"8\", 0x9]\none = 10\nflag = true\n[part]\nc = 1_1\n";
        let mut table = Table::of(text).unwrap();
        assert_eq!(table.value("a", number), Ok(Some(5)));
        assert_eq!(table.value("b", number), Ok(Some(6)));
        assert_eq!(table.value("missing", number), Ok(None));
        assert_eq!(table.list("list", number), Ok(vec![7, 8, 9]));
        assert_eq!(table.list("one", number), Ok(vec![10]));
        assert_eq!(table.list("none", number), Ok(vec![]));
        assert_eq!(table.flag("flag"), Ok(Some(true)));
        assert_eq!(table.table("part").unwrap().value("c", number), Ok(Some(11)));
        assert_eq!(table.end(), Ok(()));
    }

    #[test]
    fn what_is_wrong_has_its_line_and_a_way_out() {
        let wrong = |text: &str| {
            let mut table = Table::of(text)?;
            table.value("max-clients", number)?;
            table.list("users", number)?;
            table.flag("sandbox")?;
            let mut part = table.table("log")?;
            part.value("level", number)?;
            part.end()?;
            for mut rule in table.tables("rules")? {
                rule.value("acts", number)?;
                rule.end()?;
            }
            table.end()
        };
        let cases = [
            ("\nmax-client = 5", "line 2: max-client is not known: did you mean max-clients?"),
            ("\n\nelsewhere = 5", "line 3: elsewhere is not known: here may be max-clients, users, sandbox"),
            ("[log]\nlevels = 1", "line 2: log.levels is not known: did you mean level?"),
            ("[[rules]]\n[[rules]]\nact = 1", "line 3: rules.act is not known: did you mean acts?"),
            ("max-clients = \"x\"", "line 1: max-clients: \"x\" is no number"),
            ("max-clients = 1.5", "line 1: max-clients: a text or a number must be here, not a number with"),
            ("users = [1,\n2,\n\"x\"]", "line 3: users: \"x\": \"x\" is no number"),
            ("users = [[1]]", "line 1: users: a text or a number must be here, not a list"),
            ("sandbox = 1", "line 1: sandbox: write true or false"),
            ("log = 1", "line 1: log: this is a section: write [log]"),
            ("\nrules = 1", "line 2: rules: this is a list of sections: write [[rules]]"),
            ("rules = [1]", "line 1: rules: this is a list of sections: write [[rules]]"),
            ("max-clients = 99999999999999999999", "line 1: max-clients: 99999999999999999999 is too large"),
            ("a = 1\na = 2", "line 2: not TOML: "),
            ("a = \n", "line 1: not TOML: "),
        ];
        for (text, why) in cases {
            let found = wrong(text).unwrap_err().to_string();
            assert!(found.starts_with(why), "{text:?}: {found}");
            assert!(!found.contains('\n'), "{found}");
        }
    }

    #[test]
    fn near_words_are_those_with_few_changes() {
        for (one, other, changes) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "ac", 1), ("ab", "ba", 2), ("", "xyz", 3)]
        {
            assert_eq!((distance(one, other), distance(other, one)), (changes, changes), "{one} {other}");
        }
    }
}
