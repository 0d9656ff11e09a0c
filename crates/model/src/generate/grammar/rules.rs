//! What a GBNF grammar would cost llama.cpp, found before llama.cpp sees it.
//!
//! The parser here is llama.cpp's (`src/llama-grammar.cpp`), step for step, so that it makes the same rules. There a few
//! bytes can cost everything: what is repeated is copied; left recursion is sought along every leftmost path, one call
//! deeper for each rule; and a rule counts as empty only where an alternative is written empty, so that left recursion
//! behind a rule that vanishes in two steps is not seen and adds to the stack for ever.

use std::collections::HashMap;
use understudy_core::{Error, Result};

/// Largest grammar in bytes, given or made from a schema.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// Most rules that are written out.
pub(super) const MAX_RULES: usize = 2_000;
/// Deepest nesting of groups: the parser recurses over them.
const MAX_DEPTH: usize = 64;
/// Most repetitions that llama.cpp takes; it reads a larger maximum as none.
const MAX_REPETITIONS: u64 = 2_000;
/// Most elements (characters, classes, references) of all rules with what is repeated written out: eight bytes each.
const MAX_ELEMENTS: usize = 1_000_000;
/// Longest text of a `<token>`.
const MAX_TOKEN_BYTES: usize = 256;
/// Most alternatives among which the first character of a rule is chosen: each is a stack of the grammar's state.
const MAX_PATHS: u64 = 20_000;
/// Most rules on all those paths of a rule together: the size of those stacks, and the square of the deepest recursion.
const MAX_PATH_RULES: u64 = 10_000_000;
/// Most elements that the search for left recursion looks at.
const MAX_STEPS: u64 = 50_000_000;

/// Refuses a grammar that llama.cpp cannot read, or at too high a price.
///
/// # Errors
/// `Invalid`, saying what is wrong with it and in which line or rule.
pub(super) fn check(grammar: &str) -> Result<()> {
    if grammar.len() > MAX_BYTES {
        return Err(refused(format!("it has {} bytes, the limit is {MAX_BYTES}", grammar.len())));
    }
    if grammar.contains('\0') {
        return Err(refused("it contains a zero byte"));
    }
    Parser::read(grammar)?.check()
}

fn refused(why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("compile the grammar: {why}"))
}

/// A part of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    /// One of the numbers that make up a character, a class or a token: never empty.
    Symbol,
    /// What another rule gives.
    Rule(usize),
    /// The next alternative begins.
    Or,
}

/// Rules in llama.cpp's order.
#[derive(Debug)]
struct Rules<'a> {
    /// Elements of each rule.
    rules: Vec<Vec<Element>>,
    /// The name under which each, or the rule that it was made for, is written.
    names: Vec<&'a str>,
}

/// Reads a grammar from front to back.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    ids: HashMap<&'a str, usize>,
    names: Vec<&'a str>,
    /// `None` for what was only mentioned so far.
    rules: Vec<Option<Vec<Element>>>,
    elements: usize,
}

impl<'a> Parser<'a> {
    fn read(text: &'a str) -> Result<Rules<'a>> {
        let mut parser = Self { text, at: 0, ids: HashMap::new(), names: Vec::new(), rules: Vec::new(), elements: 0 };
        parser.space(true);
        let mut written = 0;
        while parser.peek() != 0 {
            written += 1;
            if written > MAX_RULES {
                return Err(refused(format!("it has more than {MAX_RULES} rules")));
            }
            parser.rule()?;
        }
        let Self { ids, names, rules, .. } = parser;
        if !ids.contains_key("root") {
            return Err(refused("call the rule that it begins with `root`"));
        }
        let rules = rules
            .into_iter()
            .zip(&names)
            .map(|(rule, name)| rule.ok_or_else(|| refused(format!("rule `{name}` is used and not defined"))));
        Ok(Rules { rules: rules.collect::<Result<_>>()?, names })
    }

    /// The byte that comes next; 0 at the end.
    fn peek(&self) -> u8 {
        self.ahead(0)
    }

    fn ahead(&self, bytes: usize) -> u8 {
        self.text.as_bytes().get(self.at + bytes).copied().unwrap_or(0)
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Error {
        let line = self.text.as_bytes()[..self.at.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count();
        refused(format!("line {}: {what}", line + 1))
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        if self.peek() != byte {
            return Err(self.wrong(format!("`{}` is missing", char::from(byte))));
        }
        self.at += 1;
        Ok(())
    }

    /// Skips blanks and comments, which end at either character of a line break.
    fn space(&mut self, newlines: bool) {
        loop {
            match self.peek() {
                b' ' | b'\t' => self.at += 1,
                b'\r' | b'\n' if newlines => self.at += 1,
                b'#' => self.skip(|byte| byte != b'\r' && byte != b'\n'),
                _ => return,
            }
        }
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().position(|byte| !wanted(*byte)).unwrap_or(rest.len());
    }

    fn name(&mut self) -> Result<&'a str> {
        let from = self.at;
        self.skip(is_word);
        if from == self.at {
            return Err(self.wrong("a rule's name is missing (letters, digits and `-`)"));
        }
        Ok(&self.text[from..self.at])
    }

    fn number(&mut self) -> Result<u64> {
        let from = self.at;
        self.skip(|byte| byte.is_ascii_digit());
        self.text[from..self.at].parse().map_err(|_| self.wrong("a number is missing, or it is too large"))
    }

    fn id(&mut self, name: &'a str) -> usize {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = self.new_id(name);
        self.ids.insert(name, id);
        id
    }

    /// A rule of its own for a part of rule `name`.
    fn new_id(&mut self, name: &'a str) -> usize {
        self.names.push(name);
        self.rules.push(None);
        self.names.len() - 1
    }

    fn set(&mut self, id: usize, rule: Vec<Element>) -> Result<()> {
        self.count(1)?;
        self.rules[id] = Some(rule);
        Ok(())
    }

    fn push(&mut self, rule: &mut Vec<Element>, element: Element) -> Result<()> {
        self.count(1)?;
        rule.push(element);
        Ok(())
    }

    fn count(&mut self, elements: usize) -> Result<()> {
        self.elements = self.elements.saturating_add(elements);
        if self.elements > MAX_ELEMENTS {
            let why = "with what is repeated written out, the rules have more than";
            return Err(self.wrong(format!("{why} {MAX_ELEMENTS} characters; repeat less")));
        }
        Ok(())
    }

    fn rule(&mut self) -> Result<()> {
        let name = self.name()?;
        self.space(false);
        let id = self.id(name);
        if !self.text[self.at..].starts_with("::=") {
            return Err(self.wrong(format!("`::=` is missing after `{name}`")));
        }
        self.at += 3;
        self.space(true);
        self.alternatives(name, id, 0)?;
        if !matches!(self.peek(), 0 | b'\r' | b'\n') {
            return Err(self.wrong(format!("rule `{name}` does not go on like this; begin the next one in a new line")));
        }
        self.space(true);
        Ok(())
    }

    fn alternatives(&mut self, name: &'a str, id: usize, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(self.wrong(format!("groups nest more than {MAX_DEPTH} deep")));
        }
        let mut rule = Vec::new();
        self.sequence(name, &mut rule, depth)?;
        while self.peek() == b'|' {
            self.at += 1;
            self.push(&mut rule, Element::Or)?;
            self.space(true);
            self.sequence(name, &mut rule, depth)?;
        }
        self.set(id, rule)
    }

    fn sequence(&mut self, name: &'a str, rule: &mut Vec<Element>, depth: usize) -> Result<()> {
        // Where the last item began, and how many rules it stands for.
        let (mut item, mut weight) = (rule.len(), 1);
        loop {
            let next = self.peek();
            if !matches!(next, b'*' | b'+' | b'?' | b'{') {
                // An item, or the end of the sequence, before which it does no harm.
                (item, weight) = (rule.len(), 1);
            }
            match next {
                b'"' => self.literal(rule)?,
                b'[' => self.class(rule)?,
                b'<' | b'!' => self.token(rule)?,
                b'.' => {
                    self.at += 1;
                    self.push(rule, Element::Symbol)?;
                }
                b'(' => {
                    self.at += 1;
                    self.space(true);
                    let before = self.names.len();
                    let id = self.new_id(name);
                    self.alternatives(name, id, depth + 1)?;
                    weight = (self.names.len() - before) as u64;
                    self.push(rule, Element::Rule(id))?;
                    self.expect(b')')?;
                }
                b'*' | b'+' | b'?' | b'{' => {
                    let (least, most) = self.repetition()?;
                    self.repeat(name, rule, item, &mut weight, least, most)?;
                }
                byte if is_word(byte) => {
                    let id = self.name().map(|name| self.id(name))?;
                    self.push(rule, Element::Rule(id))?;
                }
                _ => return Ok(()),
            }
            self.space(depth > 0);
        }
    }

    fn literal(&mut self, rule: &mut Vec<Element>) -> Result<()> {
        self.at += 1;
        while self.peek() != b'"' {
            self.character()?;
            self.push(rule, Element::Symbol)?;
        }
        self.at += 1;
        Ok(())
    }

    fn class(&mut self, rule: &mut Vec<Element>) -> Result<()> {
        self.at += 1;
        if self.peek() == b'^' {
            self.at += 1;
        }
        while self.peek() != b']' {
            self.character()?;
            self.push(rule, Element::Symbol)?;
            if self.peek() == b'-' && self.ahead(1) != b']' {
                self.at += 1;
                self.character()?;
                self.push(rule, Element::Symbol)?;
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Skips a character of a literal or a class.
    fn character(&mut self) -> Result<()> {
        let digits = match (self.peek(), self.ahead(1)) {
            (0, _) => return Err(self.wrong("a `\"` or `]` is missing")),
            (b'\\', b'x') => 2,
            (b'\\', b'u') => 4,
            (b'\\', b'U') => 8,
            (b'\\', b't' | b'r' | b'n' | b'\\' | b'"' | b'[' | b']' | b'-') => 0,
            (b'\\', _) => return Err(self.wrong("an unknown escape follows `\\`")),
            _ => {
                self.at += self.text[self.at..].chars().next().map_or(1, char::len_utf8);
                return Ok(());
            }
        };
        self.at += 2;
        if !(0..digits).all(|digit| self.ahead(digit).is_ascii_hexdigit()) {
            return Err(self.wrong(format!("{digits} hexadecimal digits are missing")));
        }
        self.at += digits;
        Ok(())
    }

    /// `<[id]>` or `<text>`, perhaps with `!` before it.
    fn token(&mut self, rule: &mut Vec<Element>) -> Result<()> {
        if self.peek() == b'!' {
            self.at += 1;
        }
        self.expect(b'<')?;
        if self.peek() == b'[' {
            self.at += 1;
            self.number()?;
            self.expect(b']')?;
        } else {
            let from = self.at;
            self.skip(|byte| byte != b'>');
            if self.at - from > MAX_TOKEN_BYTES {
                return Err(self.wrong("the text of a token is too long, or its `>` is missing"));
            }
        }
        self.expect(b'>')?;
        self.push(rule, Element::Symbol)
    }

    /// How often the last item comes; without an upper limit when there is no second number.
    fn repetition(&mut self) -> Result<(u64, Option<u64>)> {
        let sign = self.peek();
        self.at += 1;
        match sign {
            b'*' => return Ok((0, None)),
            b'+' => return Ok((1, None)),
            b'?' => return Ok((0, Some(1))),
            _ => {}
        }
        // llama.cpp goes over line breaks here inside of groups only; outside of them it refuses what this lets pass.
        self.space(true);
        let least = self.number()?;
        self.space(true);
        let mut most = Some(least);
        if self.peek() == b',' {
            self.at += 1;
            self.space(true);
            most = if self.peek().is_ascii_digit() { Some(self.number()?) } else { None };
            self.space(true);
        }
        self.expect(b'}')?;
        if least > MAX_REPETITIONS {
            return Err(self.wrong(format!("{least} repetitions are more than {MAX_REPETITIONS}")));
        }
        // llama.cpp counts the optional repetitions as most − least, unsigned: {3,1} would fill all memory.
        if let Some(most) = most.filter(|most| *most < least) {
            return Err(self.wrong(format!("repetition {{{least},{most}}} ends before it begins")));
        }
        Ok((least, most.filter(|most| *most <= MAX_REPETITIONS)))
    }

    /// Writes the last item, from `item` on, `least` times, and as rules of their own what may follow.
    fn repeat(
        &mut self,
        name: &'a str,
        rule: &mut Vec<Element>,
        item: usize,
        weight: &mut u64,
        least: u64,
        most: Option<u64>,
    ) -> Result<()> {
        let repeated = rule[item..].to_vec();
        if repeated.is_empty() {
            return Err(self.wrong("there is nothing to repeat"));
        }
        *weight *= most.unwrap_or(least).max(least).max(1);
        if *weight > MAX_REPETITIONS {
            return Err(self.wrong(format!("a repetition makes more than {MAX_REPETITIONS} rules; repeat less")));
        }
        let (once, optional) = (repeated.len(), most.map_or(1, |most| most - least));
        let (written, optional) =
            (usize::try_from(least).unwrap_or(usize::MAX), usize::try_from(optional).unwrap_or(usize::MAX));
        self.count(once.saturating_mul(written.saturating_sub(1)).saturating_add((once + 2).saturating_mul(optional)))?;
        rule.truncate(item);
        (0..written).for_each(|_| rule.extend_from_slice(&repeated));
        let mut last = None;
        for _ in 0..optional {
            let id = self.new_id(name);
            let mut rule = repeated.clone();
            rule.extend(if most.is_none() { Some(id) } else { last }.map(Element::Rule));
            rule.push(Element::Or);
            self.set(id, rule)?;
            last = Some(id);
        }
        rule.extend(last.map(Element::Rule));
        Ok(())
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

/// What is walked from the beginning of a rule.
#[derive(Debug, Clone, Copy, Default)]
struct Walk {
    /// Alternatives on the way.
    paths: u64,
    /// Rules on all those ways together.
    rules: u64,
    /// Elements that the search for left recursion looks at.
    steps: u64,
}

impl Rules<'_> {
    /// Refuses left recursion, and more leftmost paths than llama.cpp walks in reasonable time.
    fn check(&self) -> Result<()> {
        let first = self.firsts(&self.vanishing());
        let mut users = vec![Vec::new(); self.rules.len()];
        for (rule, first) in first.iter().enumerate() {
            first.iter().for_each(|other| users[*other].push(rule));
        }
        // Rules are looked at after all that they can begin with; those in a circle never are.
        let mut open: Vec<usize> = first.iter().map(Vec::len).collect();
        let mut ready: Vec<usize> = (0..self.rules.len()).filter(|rule| open[*rule] == 0).collect();
        let mut walks: Vec<Option<Walk>> = vec![None; self.rules.len()];
        let mut steps = 0u64;
        while let Some(rule) = ready.pop() {
            let alternatives = 1 + self.rules[rule].iter().filter(|element| **element == Element::Or).count();
            let mut walk = Walk { paths: alternatives as u64, rules: 1, steps: self.rules[rule].len() as u64 + 1 };
            for other in first[rule].iter().filter_map(|other| walks[*other]) {
                walk.paths = walk.paths.saturating_add(other.paths);
                walk.rules = walk.rules.saturating_add(other.rules).saturating_add(other.paths);
                walk.steps = walk.steps.saturating_add(other.steps);
            }
            steps = steps.saturating_add(walk.steps);
            if walk.paths > MAX_PATHS || walk.rules > MAX_PATH_RULES || steps > MAX_STEPS {
                return Err(refused(format!(
                    "rule `{}` can begin in too many ways; merge alternatives, or let them begin with different \
                     characters",
                    self.names[rule]
                )));
            }
            walks[rule] = Some(walk);
            for user in &users[rule] {
                open[*user] -= 1;
                if open[*user] == 0 {
                    ready.push(*user);
                }
            }
        }
        let Some(mut rule) = walks.iter().position(Option::is_none) else { return Ok(()) };
        // From a rule that leads to a circle into the circle.
        for _ in 0..walks.len() {
            rule = first[rule].iter().copied().find(|other| walks[*other].is_none()).unwrap_or(rule);
        }
        let name = self.names[rule];
        Err(refused(format!("rule `{name}` is left-recursive: let something that is not empty come before it returns")))
    }

    /// Whether each rule can give nothing.
    fn vanishing(&self) -> Vec<bool> {
        let mut vanishing = vec![false; self.rules.len()];
        // Alternatives of references only: whose they are, and how many of their references are not known to vanish.
        let (mut open, mut uses, mut known) = (Vec::new(), vec![Vec::new(); self.rules.len()], Vec::new());
        for (rule, elements) in self.rules.iter().enumerate() {
            for alternative in elements.split(|element| *element == Element::Or) {
                if alternative.contains(&Element::Symbol) {
                    continue;
                }
                for element in alternative {
                    if let Element::Rule(other) = element {
                        uses[*other].push(open.len());
                    }
                }
                if alternative.is_empty() && !vanishing[rule] {
                    vanishing[rule] = true;
                    known.push(rule);
                }
                open.push((rule, alternative.len()));
            }
        }
        while let Some(rule) = known.pop() {
            for alternative in &uses[rule] {
                let (owner, missing) = &mut open[*alternative];
                *missing -= 1;
                if *missing == 0 && !vanishing[*owner] {
                    vanishing[*owner] = true;
                    known.push(*owner);
                }
            }
        }
        vanishing
    }

    /// The rules that each can begin with. The return of a repetition (`s ::= item s | `) at its end is not among them:
    /// it leaves nothing on the stack, so an item that vanishes does no harm.
    fn firsts(&self, vanishing: &[bool]) -> Vec<Vec<usize>> {
        let of = |(rule, elements): (usize, &Vec<Element>)| {
            let mut first = Vec::new();
            for alternative in elements.split(|element| *element == Element::Or) {
                for (at, element) in alternative.iter().enumerate() {
                    let Element::Rule(other) = *element else { break };
                    if other != rule || at == 0 || at + 1 < alternative.len() {
                        first.push(other);
                    }
                    if !vanishing[other] {
                        break;
                    }
                }
            }
            first
        };
        self.rules.iter().enumerate().map(of).collect()
    }
}

#[cfg(test)]
mod tests;
