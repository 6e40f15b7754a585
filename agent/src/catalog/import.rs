//! A file that says what the catalog shall be: read, checked with line and column, compared with
//! what there is, and proposed command by command.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use skep_base::WallTime;
use skep_catalog::{
    Catalog, Expect, FIRST_SCHEMA, Field, Fields, Key, Kind, MAX_BODY_BYTES, Payload, Write,
    in_commands, upgrade,
};
use skep_control::Reply;
use skep_control::api::{Code, ImportCatalog, Imported, Refusal};
use toml::Spanned;

use super::{refusal_of, well_formed};

/// Tables by kind and name, each of which is an entry.
type File = BTreeMap<Spanned<String>, BTreeMap<Spanned<String>, Table>>;
type Table = BTreeMap<Spanned<String>, Spanned<toml::Value>>;

/// An import under way.
pub(crate) struct Import {
    commands: VecDeque<Vec<Write>>,
    /// What the command under way would do.
    under_way: Vec<Write>,
    done: Imported,
    /// Who asked, and the answer to him.
    reply: Option<Reply<Imported>>,
    author: String,
}

impl Import {
    /// What must happen for the catalog to be what the file says.
    ///
    /// # Errors
    /// The first thing that is wrong with the file, with line and column.
    pub(super) fn plan(
        catalog: &Catalog,
        how: ImportCatalog,
        file: &[u8],
    ) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(file).map_err(|error| {
            Refusal::new(Code::Malformed, format!("the file is no text: {error}"))
        })?;
        let wanted = read(text)?;
        let mut done = Imported::default();
        let mut writes = Vec::new();
        for (key, payload) in &wanted {
            let live = catalog.live(key);
            if live.is_some_and(|(_, said)| said == payload) {
                done.same += 1;
                continue;
            }
            if let Some(outdated) = catalog.outdated(key, payload) {
                return Err(refusal_of(&outdated));
            }
            let expect = live.map_or(Expect::Absent, |(now, _)| Expect::Revision(now.revision));
            writes.push(Write { key: key.clone(), expect, put: Some(payload.clone()) });
        }
        if how.replace {
            let named: BTreeSet<&Key> = wanted.iter().map(|(key, _)| key).collect();
            for (key, version, _) in catalog.entries() {
                // Incidents are in no backup, so none of them is missing from it.
                if !named.contains(key) && key.kind() != Kind::NOTICE {
                    let expect = Expect::Revision(version.revision);
                    writes.push(Write { key: key.clone(), expect, put: None });
                }
            }
        }
        if how.dry_run {
            note(&mut done, &writes);
            writes.clear();
        }
        let commands = in_commands("", WallTime::default(), writes);
        let commands = commands.into_iter().map(|command| command.writes).collect();
        Ok(Self { commands, under_way: Vec::new(), done, reply: None, author: String::new() })
    }

    pub(super) fn answered_by(self, reply: Reply<Imported>, author: String) -> Self {
        Self { reply: Some(reply), author, ..self }
    }

    pub(super) fn author(&self) -> &str {
        &self.author
    }

    /// The command to propose next; nothing when all is done, and said.
    pub(super) fn next(mut self) -> Option<(Vec<Write>, Self)> {
        match self.commands.pop_front() {
            Some(writes) => {
                self.under_way.clone_from(&writes);
                Some((writes, self))
            }
            None => {
                if let Some(reply) = self.reply {
                    reply.ok(self.done);
                }
                None
            }
        }
    }

    /// What came of the command under way. After a failure nothing more is proposed.
    pub(super) fn stepped(mut self, came: Result<&'static str, Refusal>) -> Self {
        match came {
            Ok(strength) => {
                note(&mut self.done, &std::mem::take(&mut self.under_way));
                let weak = self.done.strength.as_deref() == Some("weak");
                self.done.strength = Some(if weak { "weak" } else { strength }.to_owned());
            }
            Err(refusal) => {
                self.commands.clear();
                self.done.stopped = Some(refusal.message);
            }
        }
        self
    }
}

fn note(done: &mut Imported, writes: &[Write]) {
    for write in writes {
        let list = if write.put.is_some() { &mut done.set } else { &mut done.removed };
        list.push(write.key.to_string());
    }
}

/// Entries, as a file names them.
fn read(text: &str) -> Result<Vec<(Key, Payload)>, Refusal> {
    let file: File =
        toml::from_str(text).map_err(|error| wrong(text, error.span(), error.message(), None))?;
    let mut entries = Vec::new();
    let mut seen = BTreeSet::new();
    for (kind, names) in file {
        for (name, table) in names {
            let key: Result<Key, _> = format!("{}/{}", kind.as_ref(), name.as_ref()).parse();
            let span = Some(name.span());
            let key = key.map_err(|error| wrong(text, span.clone(), &error.to_string(), None))?;
            let payload = payload(text, &key, name.span(), &table)?;
            if !seen.insert(key.clone()) {
                return Err(wrong(text, span, &format!("{key} is there twice"), None));
            }
            entries.push((key, payload));
        }
    }
    Ok(entries)
}

fn payload(text: &str, key: &Key, at: Range<usize>, table: &Table) -> Result<Payload, Refusal> {
    let named = |wanted: &str| {
        table.iter().find(|(name, _)| name.as_ref() == wanted).map(|(_, value)| value)
    };
    let schema = match named("Schema").map(|value| (value.span(), value.as_ref())) {
        None => FIRST_SCHEMA,
        Some((_, toml::Value::Integer(number))) if u16::try_from(*number).is_ok() => {
            u16::try_from(*number).unwrap_or_default()
        }
        Some((span, _)) => {
            return Err(wrong(text, Some(span), &format!("{key}: Schema is no number"), None));
        }
    };
    if let Some(value) = named("Bytes") {
        let hex =
            value.as_ref().as_str().and_then(bytes_of).filter(|it| it.len() <= MAX_BODY_BYTES);
        let body = hex.ok_or_else(|| {
            let what = format!("{key}: Bytes are no hexadecimal digits of at most 16 KiB");
            wrong(text, Some(value.span()), &what, None)
        })?;
        return Ok(Payload { schema, body: body.into() });
    }
    let mut fields = Fields::new();
    for (name, value) in table.iter().filter(|(name, _)| name.as_ref() != "Schema") {
        let span = Some(value.span());
        let field = field_of(value.as_ref()).ok_or_else(|| {
            let what = format!(
                "{key}: {} is no text, whole number, switch or list of texts",
                name.as_ref()
            );
            wrong(text, span, &what, None)
        })?;
        let set = fields.set(name.as_ref(), field);
        set.map_err(|error| wrong(text, Some(name.span()), &format!("{key}: {error}"), None))?;
    }
    let body = fields.to_body();
    if body.len() > MAX_BODY_BYTES {
        let what = format!("{key} has {} bytes, and an entry at most {MAX_BODY_BYTES}", body.len());
        return Err(wrong(text, Some(at), &what, None));
    }
    let known = Kind::writable().any(|(kind, _)| kind == key.kind());
    // What a newer build wrote is taken as it is.
    if let Some(newest) = upgrade(key.kind(), schema, fields).filter(|_| known) {
        well_formed(key, &newest).map_err(|invalid| {
            let field = invalid.what.split(':').next().unwrap_or_default();
            let span = table.keys().find(|name| name.as_ref() == field).map(Spanned::span);
            wrong(text, span.or(Some(at)), &invalid.to_string(), Some(invalid.hint))
        })?;
    }
    Ok(Payload { schema, body: body.into() })
}

fn field_of(value: &toml::Value) -> Option<Field> {
    Some(match value {
        toml::Value::String(text) => Field::Text(text.clone()),
        toml::Value::Integer(number) => Field::Number(*number),
        toml::Value::Boolean(flag) => Field::Flag(*flag),
        toml::Value::Array(items) => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            Field::List(texts.collect::<Option<_>>()?)
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => return None,
    })
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn wrong(text: &str, span: Option<Range<usize>>, what: &str, hint: Option<String>) -> Refusal {
    let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    let refusal = Refusal::new(Code::Malformed, format!("{line}:{column}: {what}"));
    match hint {
        Some(hint) => refusal.hint(hint),
        None => refusal,
    }
}

#[cfg(test)]
mod tests {
    use skep_catalog::{Command, Dot, Origin, export};

    use super::*;

    fn filled() -> Catalog {
        let mut catalog = Catalog::new();
        let mut put = |name: &str, payload: Payload| {
            let write =
                Write { key: name.parse().unwrap(), expect: Expect::Anything, put: Some(payload) };
            let command = Command::one("a".into(), WallTime::default(), write);
            let at = Dot { index: catalog.index() + 1, ..Dot::default() };
            catalog.apply(at, Origin::Own, &command.to_bytes().unwrap());
        };
        let mut fields = Fields::new();
        fields.set("about", Field::Text("the \"web\"\n\u{7}".into())).unwrap();
        fields.set("connectivity", Field::Number(3)).unwrap();
        fields.set("members", Field::List(vec!["a".into(), "b".into()])).unwrap();
        put("group/web", Payload::of(Kind::GROUP, &fields));
        let mut value = Fields::new();
        value.set("value", Field::Flag(true)).unwrap();
        put("setting/a.b_c", Payload::of(Kind::SETTING, &value));
        put("kind-77/x", Payload { schema: 4, body: vec![0xff, 0].into() });
        catalog
    }

    fn applied(mut catalog: Catalog, mut import: Import) -> Catalog {
        while let Some((writes, rest)) = import.next() {
            let command = Command { who: String::new(), when: WallTime::default(), writes };
            let at = Dot { index: catalog.index() + 1, ..Dot::default() };
            catalog.apply(at, Origin::Own, &command.to_bytes().unwrap());
            import = rest.stepped(Ok("strong"));
        }
        catalog
    }

    #[test]
    fn an_export_imported_elsewhere_is_the_same_catalog() {
        let text = export(&filled());
        let how = ImportCatalog::default();
        let copy =
            applied(Catalog::new(), Import::plan(&Catalog::new(), how, text.as_bytes()).unwrap());
        let says = |catalog: &Catalog| -> Vec<(Key, Payload)> {
            let all = catalog.entries().into_iter();
            all.map(|(key, _, payload)| (key.clone(), payload.clone())).collect()
        };
        assert_eq!(says(&copy), says(&filled()), "{text}");
        let again = Import::plan(&copy, how, text.as_bytes()).unwrap();
        assert_eq!((again.done.same, again.commands.len()), (3, 0));
    }

    #[test]
    fn replacing_removes_what_the_file_does_not_name() {
        let file = "[setting.new]\nvalue = 1\n";
        let how = ImportCatalog { replace: true, dry_run: true };
        let plan = Import::plan(&filled(), how, file.as_bytes()).unwrap();
        assert_eq!((plan.done.set.len(), plan.done.removed.len()), (1, 3));
        assert!(plan.commands.is_empty(), "a dry run proposes nothing");
        let how = ImportCatalog { replace: true, dry_run: false };
        let catalog = applied(filled(), Import::plan(&filled(), how, file.as_bytes()).unwrap());
        assert_eq!(catalog.entries().len(), 1);
    }

    #[test]
    fn a_file_that_knows_less_than_an_entry_says_is_refused_whole() {
        let file = "[setting.new]\nvalue = 1\n[kind-77.x]\nSchema = 3\nBytes = \"00\"\n";
        for dry_run in [false, true] {
            let how = ImportCatalog { replace: true, dry_run };
            let Err(refusal) = Import::plan(&filled(), how, file.as_bytes()) else {
                panic!("it is taken");
            };
            assert!(refusal.message.contains("kind-77/x was written in schema 4"), "{refusal:?}");
            assert!(refusal.hint.unwrap().contains("skep catalog rm kind-77/x"));
        }
        // One that says the same, or more, is taken.
        let newer = "[kind-77.x]\nSchema = 5\nBytes = \"00\"\n";
        let plan = Import::plan(&filled(), ImportCatalog::default(), newer.as_bytes()).unwrap();
        assert_eq!(plan.commands.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_said_with_line_and_column() {
        let why = |text: &str| {
            let plan = Import::plan(&Catalog::new(), ImportCatalog::default(), text.as_bytes());
            match plan {
                Ok(_) => panic!("{text:?} is taken"),
                Err(refusal) => refusal.message,
            }
        };
        assert_eq!(
            why("[group.web]\nconnectivity = 9\n"),
            "2:1: group/web: connectivity: 9 is not within 1 and 8"
        );
        assert!(why("[group.web]\nconnectivity = = 9\n").starts_with("2:"));
        assert!(why("[nothing.web]\n").contains("is no kind of entry"));
        assert!(why("[setting.a]\nvalue = 1.5\n").starts_with("2:9: setting/a: value is no text"));
        assert!(why("[setting.a]\nBytes = \"xy\"\n").starts_with("2:9:"));
    }
}
