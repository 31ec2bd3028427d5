//! JSON (RFC 8259), token by token, from front to back. Digits of numbers stay as they are.

use std::borrow::Cow;

use super::Malformed;

/// Reads a text.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

type Result<T> = std::result::Result<T, Malformed>;

impl<'a> Scanner<'a> {
    /// A scanner of a whole text.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { text, at: 0 }),
            Err(error) => Err(Malformed { at: error.valid_up_to(), what: "not UTF-8" }),
        }
    }

    pub(super) fn error(&self, what: &'static str) -> Malformed {
        Malformed { at: self.at, what }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The next byte that is no white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let rest = self.rest();
        let space = rest.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.at += space;
        rest.get(space).copied()
    }

    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, byte: u8, what: &'static str) -> Result<()> {
        if self.eat(byte) { Ok(()) } else { Err(self.error(what)) }
    }

    /// Whether another entry of an object or array follows, whose end is `close`. `first`: nothing
    /// was read of it yet.
    pub(super) fn more(&mut self, close: u8, first: bool) -> Result<bool> {
        if self.eat(close) {
            return Ok(false);
        }
        if !first {
            self.expect(b',', "a comma or the end must stand here")?;
        }
        Ok(true)
    }

    /// The name of a member, and its colon.
    pub(super) fn name(&mut self) -> Result<Cow<'a, str>> {
        let name = self.string()?;
        self.expect(b':', "a colon must stand here")?;
        Ok(name)
    }

    pub(super) fn string(&mut self) -> Result<Cow<'a, str>> {
        self.expect(b'"', "a string must stand here")?;
        let start = self.at;
        let mut plain = true;
        loop {
            let found = memchr::memchr2(b'"', b'\\', self.rest());
            self.at += found.ok_or(self.error("a string does not end"))?;
            if self.rest().first() == Some(&b'"') {
                break;
            }
            plain = false;
            self.at += 2;
        }
        let inside = self.text.get(start..self.at).ok_or(self.error("a string does not end"))?;
        self.at += 1;
        if inside.bytes().any(|byte| byte < 0x20) {
            return Err(self.error("a string has a control character"));
        }
        if plain {
            return Ok(Cow::Borrowed(inside));
        }
        let quoted = format!("\"{inside}\"");
        serde_json::from_str(&quoted).map(Cow::Owned).map_err(|_| self.error("an escape is none"))
    }

    /// The digits of a number.
    pub(super) fn number(&mut self) -> Result<&'a str> {
        let start = self.at;
        let is_digit = |byte: &&u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
        self.at += self.rest().iter().take_while(is_digit).count();
        let digits = self.text.get(start..self.at).unwrap_or_default();
        let valid = serde_json::from_str::<&serde_json::value::RawValue>(digits).is_ok();
        if valid { Ok(digits) } else { Err(self.error("a value must stand here")) }
    }

    /// `true`, `false` or `null`.
    pub(super) fn word(&mut self) -> Result<&'static str> {
        for word in ["null", "true", "false"] {
            if self.rest().starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(word);
            }
        }
        Err(self.error("a value must stand here"))
    }

    /// Passes a value, however deep it is.
    pub(super) fn pass(&mut self) -> Result<()> {
        let mut open = Vec::new();
        loop {
            match self.peek() {
                Some(b'"') => _ = self.string()?,
                Some(b'{') => {
                    self.at += 1;
                    open.push(b'}');
                    if !self.eat(b'}') {
                        self.name()?;
                        continue;
                    }
                    open.pop();
                }
                Some(b'[') => {
                    self.at += 1;
                    open.push(b']');
                    if !self.eat(b']') {
                        continue;
                    }
                    open.pop();
                }
                Some(b'-' | b'0'..=b'9') => _ = self.number()?,
                _ => _ = self.word()?,
            }
            // A value is behind: what is around it goes on or ends.
            loop {
                let Some(close) = open.last().copied() else { return Ok(()) };
                if self.eat(close) {
                    open.pop();
                    continue;
                }
                self.expect(b',', "a comma or the end must stand here")?;
                if close == b'}' {
                    self.name()?;
                }
                break;
            }
        }
    }

    /// Nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("something follows the end")),
        }
    }
}
