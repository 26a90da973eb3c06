//! Finds the public items in the text of a file that `rustfmt` has formatted.

use std::collections::HashSet;

/// What the files say of each other's items.
#[derive(Debug, Default)]
pub(super) struct Names {
    types: HashSet<String>,
    hidden_traits: HashSet<String>,
    /// The macros that make public items.
    makers: HashSet<String>,
}

/// The word that `line` has after another one.
fn word_after<'t>(line: &'t str, before: &str) -> Option<&'t str> {
    let (_, rest) = line.split_once(before)?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
}

impl Names {
    /// Learns the names in a file.
    pub(super) fn learn(&mut self, text: &str) {
        let mut maker = None;
        for line in text.lines() {
            for word in ["pub struct ", "pub enum ", "pub trait ", "pub type "] {
                let name = line
                    .trim_start()
                    .starts_with(word)
                    .then(|| word_after(line, word));
                self.types.extend(name.flatten().map(str::to_owned));
            }
            if line.starts_with("trait ") || line.starts_with("pub(") && line.contains(" trait ") {
                let name = word_after(line, "trait ");
                self.hidden_traits.extend(name.map(str::to_owned));
            }
            match line.strip_prefix("macro_rules! ") {
                Some(name) => maker = Some(name.trim_end_matches(" {").to_owned()),
                None if line == "}" => maker = None,
                None if line.trim_start().starts_with("pub ") => self.makers.extend(maker.take()),
                None => {}
            }
        }
    }

    /// Whether an implementation of a trait is for users.
    fn shows(&self, header: &str) -> bool {
        let bare = header.trim_start_matches("impl");
        let bare = match bare.starts_with('<') {
            true => after_generics(bare),
            false => bare,
        };
        let Some((of, ty)) = bare.split_once(" for ") else {
            return true;
        };
        let name = |path: &str| {
            let path = path.split('<').next().unwrap_or_default();
            let last = path.rsplit("::").next().unwrap_or_default();
            last.trim().trim_start_matches(['&', '[', '(']).to_owned()
        };
        !self.hidden_traits.contains(&name(of)) && self.types.contains(&name(ty))
    }
}

/// What comes after the generic parameters at the start.
fn after_generics(text: &str) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if !text[..at].ends_with('-') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[at + 1..];
        }
    }
    text
}

/// The items, in order: each on one line, without bodies, values and comments.
pub(super) fn items(text: &str, names: &Names) -> Vec<String> {
    let mut scan = Scan {
        names,
        lines: text.lines().peekable(),
        items: Vec::new(),
        owner: None,
    };
    scan.run();
    scan.items
}

struct Scan<'t> {
    names: &'t Names,
    lines: std::iter::Peekable<std::str::Lines<'t>>,
    items: Vec<String>,
    /// The header of the implementation around, until an item in it is public.
    owner: Option<String>,
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn is_said(line: &str) -> bool {
    !line.trim_start().starts_with("//") && !line.trim().is_empty()
}

impl Scan<'_> {
    fn run(&mut self) {
        let (mut hidden, mut exported) = (false, false);
        while let Some(line) = self.lines.next() {
            let said = line.trim_start();
            match said {
                "#[cfg(test)]" => {
                    self.skip();
                    continue;
                }
                "#[doc(hidden)]" => hidden = true,
                "#[macro_export]" => exported = true,
                _ if said.starts_with("#[") || !is_said(line) => {}
                _ => {
                    self.item(line, hidden, exported);
                    (hidden, exported) = (false, false);
                }
            }
        }
    }

    /// Leaves out the item that begins with the next line.
    fn skip(&mut self) {
        let Some(line) = self.lines.next() else {
            return;
        };
        if !line.ends_with(['}', ';']) {
            self.body(indent(line));
        }
    }

    /// The lines up to the brace that closes at an indentation.
    fn body(&mut self, indentation: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for line in self.lines.by_ref() {
            if indent(line) == indentation && line.trim_start().starts_with('}') {
                break;
            }
            if is_said(line) {
                lines.push(line.to_owned());
            }
        }
        lines
    }

    fn item(&mut self, line: &str, hidden: bool, exported: bool) {
        let said = line.trim_start();
        if said.starts_with("macro_rules!") {
            let name = said.trim_end_matches(" {").to_owned();
            self.body(indent(line));
            if exported && !hidden {
                self.items.push(name);
            }
        } else if indent(line) == 0 && said.ends_with("! {") {
            self.made_by_macro(said);
        } else if said.starts_with("impl") && indent(line) == 0 {
            let header = self.whole(line);
            let header = header.trim_end_matches('{').trim_end_matches("{}").trim();
            match header.contains(" for ") {
                true if self.names.shows(header) => self.items.push(header.to_owned()),
                true => {}
                false => self.owner = Some(header.to_owned()),
            }
        } else if let Some(rest) = said.strip_prefix("pub ") {
            let item = self.whole(line);
            if hidden {
                if item.ends_with('{') {
                    self.body(indent(line));
                }
                return;
            }
            if indent(line) > 0 && self.owner.is_some() {
                self.items.extend(self.owner.take());
            }
            self.public(&item, rest, indent(line));
        }
    }

    /// An item over several lines, as one: up to a brace that opens, a semicolon or, for a field, a
    /// comma.
    fn whole(&mut self, first: &str) -> String {
        let mut item = first.trim().to_owned();
        let ends = |item: &str| {
            let open = |pair: [char; 2]| pair.map(|c| item.matches(c).count());
            let [opened, closed] = open(['(', ')']);
            let is_use = item.starts_with("pub use ");
            opened == closed
                && match is_use {
                    true => item.ends_with(';'),
                    false => item.ends_with(['{', ';', ',', '}']),
                }
        };
        while !ends(&item) {
            let Some(line) = self.lines.next() else {
                break;
            };
            if is_said(line) && !line.trim_start().starts_with("#[") {
                let joined = item.ends_with('(') || line.trim_start().starts_with(')');
                item += if joined { "" } else { " " };
                item += line.trim();
            }
        }
        item.replace(",)", ")")
    }

    fn public(&mut self, item: &str, rest: &str, indentation: usize) {
        let shown = match item.split_once(" = ") {
            Some((declared, _)) if rest.starts_with("const ") || rest.starts_with("static ") => {
                declared
            }
            _ => item,
        };
        let shown = shown.trim_end_matches(['{', ',', ';']).trim_end();
        let inside = if indentation > 0 { "    " } else { "" };
        let opens = item.ends_with('{');
        self.items.push(format!("{inside}{shown}"));
        if opens && rest.starts_with("enum ") {
            let variants = self.body(indentation);
            self.variants(&variants, indentation);
        } else if opens && rest.starts_with("trait ") {
            self.methods(indentation);
        } else if opens && (rest.starts_with("fn ") || rest.starts_with("const fn ")) {
            self.body(indentation);
        }
    }

    fn variants(&mut self, lines: &[String], indentation: usize) {
        let is_attribute = |line: &str| line.trim_start().starts_with("#[");
        for line in lines.iter().filter(|line| !is_attribute(line)) {
            let deeper = " ".repeat(indent(line) - indentation);
            self.items
                .push(format!("{deeper}{}", line.trim().trim_end_matches(',')));
        }
    }

    /// The methods and types of a trait.
    fn methods(&mut self, indentation: usize) {
        while let Some(line) = self.lines.next() {
            let said = line.trim_start();
            if indent(line) == indentation && said.starts_with('}') {
                break;
            }
            if ["fn ", "type ", "const "]
                .iter()
                .any(|word| said.starts_with(word))
            {
                let item = self.whole(line);
                let optional = if item.ends_with('{') { " { .. }" } else { "" };
                let shown = item.trim_end_matches(['{', ';']).trim_end();
                self.items.push(format!("    {shown}{optional}"));
                if item.ends_with('{') {
                    self.body(indent(line));
                }
            }
        }
    }

    /// What a macro of the file makes public: the lines that it is given, which name the items.
    fn made_by_macro(&mut self, header: &str) {
        let lines = self.body(0);
        let name = header.split('!').next().unwrap_or_default();
        if self.names.makers.contains(name) {
            self.items.push(header.trim_end_matches(" {").to_owned());
            let closes = |line: &str| line.trim_start().starts_with(['}', ')', ']']);
            let named = lines
                .iter()
                .filter(|line| indent(line) == 4 && !closes(line));
            let first = |line: &String| line.split('{').next().unwrap_or("").trim_end().to_owned();
            self.items.extend(named.map(first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Names, items};

    /// The items of a file that knows no other.
    fn alone(text: &str) -> Vec<String> {
        let mut names = Names::default();
        names.learn(text);
        items(text, &names)
    }

    #[test]
    fn finds_what_is_public() {
        let text = r#"
//! pub fn of_a_comment() {}
pub mod inner;
pub use inner::{
    A, B,
};
pub(crate) fn hidden() {}
pub const MOST: usize = 3;

/// A struct.
#[derive(Clone)]
pub struct Point<T> {
    /// Across.
    pub x: T,
    y: T,
}

impl<T> Point<T> {
    fn private(&self) {
        pub_like();
    }

    /// Makes one.
    #[must_use]
    pub fn new(
        x: T,
        y: T,
    ) -> Self {
        Point { x, y }
    }
}

impl<T: Copy> From<T> for Point<T> {
    fn from(x: T) -> Self {
        Point { x, y: x }
    }
}

impl Inner for Point<u8> {}
impl Shape for Private {}

trait Inner {}

pub enum Kind {
    /// One.
    Plain,
    With {
        size: usize,
    },
}

pub trait Shape: Copy {
    type Side;
    fn area(&self) -> f64;
    fn name(&self) -> String {
        String::new()
    }
}

#[doc(hidden)]
pub fn not_listed() {
    body();
}

#[cfg(test)]
mod tests {
    pub fn neither() {}
}
"#;
        let expected = [
            "pub mod inner",
            "pub use inner::{ A, B, }",
            "pub const MOST: usize",
            "pub struct Point<T>",
            "    pub x: T",
            "impl<T> Point<T>",
            "    pub fn new(x: T, y: T) -> Self",
            "impl<T: Copy> From<T> for Point<T>",
            "pub enum Kind",
            "    Plain",
            "    With {",
            "        size: usize",
            "    }",
            "pub trait Shape: Copy",
            "    type Side",
            "    fn area(&self) -> f64",
            "    fn name(&self) -> String { .. }",
        ];
        assert_eq!(alone(text), expected);
    }

    #[test]
    fn finds_what_macros_make() {
        let text = "\
#[macro_export]
macro_rules! check {
    ($x:expr) => { f($x) };
}

macro_rules! functions {
    ($($name:ident)*) => {
        pub fn $name() {}
    };
}

macro_rules! others {
    () => {};
}

others! {
    not listed;
}

functions! {
    /// The exponential.
    exp Exp;
    Tanh(x) -> y {
        eval: x.tanh(),
    }
}
";
        assert_eq!(
            alone(text),
            [
                "macro_rules! check",
                "functions!",
                "    exp Exp;",
                "    Tanh(x) -> y"
            ]
        );
    }
}
