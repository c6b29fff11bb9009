//! The handshake, as the server sees it: options until an export is granted.
//!
//! With TLS configured, nothing is said about exports before it has begun. What cannot be understood ends the connection;
//! what is only not wanted or not known is answered, and the handshake goes on.

use std::sync::Arc;

use backy_core::{Error, ErrorKind, Result};
use rustls::ServerConfig;
use tracing::warn;

use super::export::{Export, Exports};
use super::stream::Stream;
use super::wire::handshake::{
    ContextRequest, ExportRequest, FIXED_NEWSTYLE, Greeting, Information, NO_ZEROES, OptionHeader, OptionReplyHeader,
    option, reply,
};
use super::wire::{NAME_BYTES_MAX, OPTION_BYTES_MAX, PAYLOAD_BYTES_MAX};

/// The only kind of block status that there is, and its number.
const ALLOCATION: &str = "base:allocation";
pub(super) const ALLOCATION_ID: u32 = 1;
/// So many options are more than a client needs: one that lists a repository asks three times for each of its exports.
const OPTIONS_MAX: usize = 100_000;

/// What was agreed upon.
pub(super) struct Session {
    pub(super) export: Arc<Export>,
    pub(super) has_structured_replies: bool,
    pub(super) has_allocation: bool,
}

/// Comes to terms with a client; none if it has gone away. Calls `heard` after each option that was answered.
pub(super) fn negotiate(
    stream: &mut Stream,
    exports: &dyn Exports,
    tls: Option<&Arc<ServerConfig>>,
    heard: &dyn Fn(),
) -> Result<Option<Session>> {
    stream.write(&[&Greeting { flags: FIXED_NEWSTYLE | NO_ZEROES }.encode()])?;
    let mut flags = [0; 4];
    if !stream.read_or_end(&mut flags)? {
        return Ok(None);
    }
    let flags = u32::from_be_bytes(flags);
    if flags & !u32::from(FIXED_NEWSTYLE | NO_ZEROES) != 0 {
        return Err(Error::invalid(format!("the client has unknown flags {flags:#x}")));
    }
    let mut talk = Talk {
        stream,
        exports,
        tls,
        has_no_zeroes: flags & u32::from(NO_ZEROES) != 0,
        has_structured_replies: false,
        context_of: None,
    };
    for _ in 0..OPTIONS_MAX {
        match talk.option()? {
            Next::Option => heard(),
            Next::Granted(session) => return Ok(Some(session)),
            Next::Gone => return Ok(None),
        }
    }
    Err(Error::invalid("the client does not come to a decision"))
}

enum Next {
    Option,
    Granted(Session),
    Gone,
}

struct Talk<'a> {
    stream: &'a mut Stream,
    exports: &'a dyn Exports,
    tls: Option<&'a Arc<ServerConfig>>,
    has_no_zeroes: bool,
    has_structured_replies: bool,
    /// The export for which block status was agreed upon.
    context_of: Option<String>,
}

impl Talk<'_> {
    fn option(&mut self) -> Result<Next> {
        let mut header = [0; OptionHeader::BYTES];
        if !self.stream.read_or_end(&mut header)? {
            return Ok(Next::Gone);
        }
        let OptionHeader { code, length_bytes } = OptionHeader::decode(&header)?;
        if length_bytes > OPTION_BYTES_MAX {
            return Err(Error::invalid(format!("an option of {length_bytes} bytes")));
        }
        let mut data = vec![0; usize::try_from(length_bytes).unwrap_or_default()];
        self.stream.read(&mut data)?;
        let needs_tls = self.tls.is_some() && !self.stream.is_encrypted();
        match code {
            option::ABORT => {
                // The client may be gone before it hears it.
                let _ = self.answer(code, reply::ACK, &[]);
                return Ok(Next::Gone);
            }
            option::STARTTLS => self.start_tls(&data)?,
            option::EXPORT_NAME if needs_tls => {
                return Err(Error::invalid("the client wants an export without TLS"));
            }
            _ if needs_tls => self.answer(code, reply::ERROR_TLS_REQUIRED, b"begin TLS first")?,
            option::EXPORT_NAME => return self.export_name(&data),
            option::LIST => self.list(&data)?,
            option::INFO | option::GO => return self.info_or_go(code, &data),
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.has_structured_replies = true;
                self.answer(code, reply::ACK, &[])?;
            }
            option::STRUCTURED_REPLY => self.answer(code, reply::ERROR_INVALID, b"it has no data")?,
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => self.contexts(code, &data)?,
            _ => self.answer(code, reply::ERROR_UNSUPPORTED, b"unknown option")?,
        }
        Ok(Next::Option)
    }

    fn start_tls(&mut self, data: &[u8]) -> Result<()> {
        let code = option::STARTTLS;
        match self.tls {
            None => self.answer(code, reply::ERROR_POLICY, b"there is no TLS here"),
            Some(_) if !data.is_empty() || self.stream.is_encrypted() => {
                self.answer(code, reply::ERROR_INVALID, b"not again, and without data")
            }
            Some(config) => {
                self.answer(code, reply::ACK, &[])?;
                // Whatever was agreed upon in the open, somebody else may have said.
                self.has_structured_replies = false;
                self.context_of = None;
                self.stream.encrypt(config.clone())
            }
        }
    }

    fn export_name(&mut self, data: &[u8]) -> Result<Next> {
        let name = std::str::from_utf8(data).ok().filter(|name| name.len() <= NAME_BYTES_MAX);
        let name = name.ok_or_else(|| Error::invalid("the client names no export"))?;
        let export = self.exports.open(name)?;
        let size_bytes = export.disk().source().size_bytes().to_be_bytes();
        let zeroes: &[u8] = if self.has_no_zeroes { &[] } else { &[0; 124] };
        self.stream.write(&[&size_bytes, &export.flags().to_be_bytes(), zeroes])?;
        Ok(Next::Granted(self.session(name, export)))
    }

    fn list(&mut self, data: &[u8]) -> Result<()> {
        let code = option::LIST;
        if !data.is_empty() {
            return self.answer(code, reply::ERROR_INVALID, b"it has no data");
        }
        match self.exports.names() {
            Ok(names) => {
                for name in names.iter().filter(|name| name.len() <= NAME_BYTES_MAX) {
                    let length = u32::try_from(name.len()).unwrap_or_default();
                    self.answer(code, reply::SERVER, &[&length.to_be_bytes(), name.as_bytes()].concat())?;
                }
                self.answer(code, reply::ACK, &[])
            }
            Err(error) => {
                warn!("list the exports: {error}");
                self.answer(code, reply::ERROR_POLICY, b"the list cannot be had now")
            }
        }
    }

    fn info_or_go(&mut self, code: u32, data: &[u8]) -> Result<Next> {
        let Ok(request) = ExportRequest::decode(data) else {
            self.answer(code, reply::ERROR_INVALID, b"that is no question")?;
            return Ok(Next::Option);
        };
        let export = match self.exports.open(&request.name) {
            Ok(export) => export,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.answer(code, reply::ERROR_UNKNOWN, error.to_string().as_bytes())?;
                return Ok(Next::Option);
            }
            Err(error) => {
                warn!("export {:?}: {error}", request.name);
                self.answer(code, reply::ERROR_POLICY, b"it cannot be opened now")?;
                return Ok(Next::Option);
            }
        };
        for information in [
            Information::Export { size_bytes: export.disk().source().size_bytes(), flags: export.flags() },
            Information::Description(export.description().to_owned()),
            Information::BlockSize {
                minimum_bytes: 1,
                preferred_bytes: export.preferred_bytes(),
                maximum_bytes: PAYLOAD_BYTES_MAX,
            },
        ] {
            self.answer(code, reply::INFO, &information.encode())?;
        }
        self.answer(code, reply::ACK, &[])?;
        if code == option::INFO {
            return Ok(Next::Option);
        }
        Ok(Next::Granted(self.session(&request.name, export)))
    }

    fn contexts(&mut self, code: u32, data: &[u8]) -> Result<()> {
        let is_setting = code == option::SET_META_CONTEXT;
        if is_setting {
            self.context_of = None;
        }
        if !self.has_structured_replies {
            return self.answer(code, reply::ERROR_INVALID, b"ask for structured replies first");
        }
        let Ok(request) = ContextRequest::decode(data) else {
            return self.answer(code, reply::ERROR_INVALID, b"that is no question");
        };
        if let Err(error) = self.exports.open(&request.name) {
            return self.answer(code, reply::ERROR_UNKNOWN, error.to_string().as_bytes());
        }
        let is_meant = |query: &String| query == ALLOCATION || (!is_setting && query == "base:");
        let lists_all = !is_setting && request.queries.is_empty();
        if lists_all || request.queries.iter().any(is_meant) {
            let id = if is_setting { ALLOCATION_ID } else { 0 };
            self.answer(code, reply::META_CONTEXT, &[&id.to_be_bytes(), ALLOCATION.as_bytes()].concat())?;
            if is_setting {
                self.context_of = Some(request.name);
            }
        }
        self.answer(code, reply::ACK, &[])
    }

    fn session(&self, name: &str, export: Arc<Export>) -> Session {
        let has_allocation = self.context_of.as_deref() == Some(name);
        Session { export, has_structured_replies: self.has_structured_replies, has_allocation }
    }

    fn answer(&mut self, code: u32, kind: u32, data: &[u8]) -> Result<()> {
        let length_bytes = u32::try_from(data.len()).unwrap_or_default();
        self.stream.write(&[&OptionReplyHeader { code, kind, length_bytes }.encode(), data])
    }
}
