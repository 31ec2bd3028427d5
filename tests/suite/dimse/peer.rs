//! A peer of the gateway: associations, messages and data sets as a test wants them.

use std::{collections::BTreeMap, net::SocketAddr};

use dicom_ul::pdu::{
    AssociationAC, AssociationRJ, AssociationRQ, PDataValue, PDataValueType, Pdu,
    PresentationContextProposed, PresentationContextResult, PresentationContextResultReason,
    RequestorRoles, UserVariableItem, read_pdu, write_pdu,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::Server;

pub const VERIFICATION: &str = "1.2.840.10008.1.1";
pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub const STUDY_FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
pub const STUDY_MOVE: &str = "1.2.840.10008.5.1.4.1.2.2.2";
pub const STUDY_GET: &str = "1.2.840.10008.5.1.4.1.2.2.3";
pub const PATIENT_FIND: &str = "1.2.840.10008.5.1.4.1.2.1.1";
pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub const IMPLICIT: &str = "1.2.840.10008.1.2";

pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// What was answered to a message.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub field: u16,
    pub status: u16,
    pub comment: String,
    /// Remaining, completed, failed and warned sub-operations.
    pub counts: [Option<u16>; 4],
    pub message: u16,
    pub context: u8,
    pub instance: String,
    pub bytes: Vec<u8>,
    values: BTreeMap<(u16, u16), String>,
}

impl Answer {
    pub fn text(&self, group: u16, element: u16) -> &str {
        &self.values[&(group, element)]
    }

    pub fn has(&self, group: u16, element: u16) -> bool {
        self.values.contains_key(&(group, element))
    }
}

/// A side of an association.
pub struct Peer {
    stream: Box<dyn Stream>,
    message: u16,
    pub accepted: Vec<PresentationContextResult>,
    classes: Vec<String>,
    /// What is not written yet, while it is held back.
    held: Option<Vec<u8>>,
}

/// A presentation context: SOP class, transfer syntaxes.
pub type Context<'a> = (&'a str, &'a [&'a str]);

/// What an association is asked for with.
pub fn request(
    calling: &str,
    called: &str,
    contexts: &[Context<'_>],
    takes: &[&str],
) -> AssociationRQ {
    let proposed =
        contexts.iter().enumerate().map(|(at, (class, syntaxes))| PresentationContextProposed {
            id: (2 * at + 1) as u8,
            abstract_syntax: (*class).to_owned(),
            transfer_syntaxes: syntaxes.iter().map(|uid| (*uid).to_owned()).collect(),
        });
    let mut user_variables = vec![
        UserVariableItem::MaxLength(16 << 10),
        UserVariableItem::ImplementationClassUID("1.2.3".to_owned()),
    ];
    user_variables.extend(takes.iter().map(|class| {
        let roles = RequestorRoles { scu: false, scp: true };
        UserVariableItem::ScuScpRoleSelectionSubItem((*class).to_owned(), roles)
    }));
    AssociationRQ {
        protocol_version: 1,
        calling_ae_title: calling.to_owned(),
        called_ae_title: called.to_owned(),
        application_context_name: "1.2.840.10008.3.1.1.1".to_owned(),
        presentation_contexts: proposed.collect(),
        user_variables,
    }
}

/// Where the gateway of a server listens.
pub fn address(server: &Server) -> SocketAddr {
    server.dimse_address().unwrap()
}

impl Peer {
    /// An association in Explicit VR Little Endian.
    pub async fn new(server: &Server, calling: &str, called: &str, classes: &[&str]) -> Self {
        let contexts: Vec<Context<'_>> =
            classes.iter().map(|class| (*class, &[EXPLICIT][..])).collect();
        Self::with(server, request(calling, called, &contexts, &[])).await.unwrap()
    }

    pub async fn with(server: &Server, request: AssociationRQ) -> Result<Self, AssociationRJ> {
        let stream = TcpStream::connect(address(server)).await.unwrap();
        Self::over(Box::new(stream), request).await
    }

    pub async fn over(
        stream: Box<dyn Stream>,
        request: AssociationRQ,
    ) -> Result<Self, AssociationRJ> {
        let contexts = request.presentation_contexts.iter();
        let classes = contexts.map(|context| context.abstract_syntax.clone()).collect();
        let accepted = Vec::new();
        let mut it = Self { stream, message: 0, accepted, classes, held: None };
        it.send(&request.into()).await;
        match it.read().await {
            Pdu::AssociationAC(AssociationAC { presentation_contexts, .. }) => {
                it.accepted = presentation_contexts;
                Ok(it)
            }
            Pdu::AssociationRJ(rejected) => Err(rejected),
            other => panic!("{other:?}"),
        }
    }

    /// The other side: takes whatever is proposed in the first of its syntaxes, if `takes` says so.
    pub async fn accept(
        stream: Box<dyn Stream>,
        takes: impl Fn(&str, &str) -> bool,
    ) -> (Self, AssociationRQ) {
        let mut it =
            Self { stream, message: 0, accepted: Vec::new(), classes: Vec::new(), held: None };
        let Pdu::AssociationRQ(request) = it.read().await else { panic!("no request") };
        for proposed in &request.presentation_contexts {
            let syntax = proposed.transfer_syntaxes.iter();
            let syntax = { syntax }.find(|syntax| takes(&proposed.abstract_syntax, syntax));
            it.classes.push(proposed.abstract_syntax.clone());
            it.accepted.push(PresentationContextResult {
                id: proposed.id,
                reason: match syntax {
                    Some(_) => PresentationContextResultReason::Acceptance,
                    None => PresentationContextResultReason::TransferSyntaxesNotSupported,
                },
                transfer_syntax: syntax.cloned().unwrap_or_else(|| IMPLICIT.to_owned()),
            });
        }
        let answer = AssociationAC {
            protocol_version: 1,
            application_context_name: request.application_context_name.clone(),
            called_ae_title: request.called_ae_title.clone(),
            calling_ae_title: request.calling_ae_title.clone(),
            presentation_contexts: it.accepted.clone(),
            user_variables: vec![UserVariableItem::MaxLength(0)],
        };
        it.send(&answer.into()).await;
        (it, request)
    }

    pub async fn send(&mut self, pdu: &Pdu) {
        let mut bytes = Vec::new();
        write_pdu(&mut bytes, pdu).unwrap();
        self.raw(&bytes).await;
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        if let Some(held) = &mut self.held {
            return held.extend_from_slice(bytes);
        }
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Writes nothing until [`Peer::let_go`], which writes it in one piece.
    pub fn hold_back(&mut self) {
        self.held = Some(Vec::new());
    }

    pub async fn let_go(&mut self) {
        let held = self.held.take().unwrap();
        self.raw(&held).await;
    }

    /// The next PDU.
    pub async fn read(&mut self) -> Pdu {
        let mut all = vec![0; 6];
        self.stream.read_exact(&mut all).await.unwrap();
        let length = u32::from_be_bytes(all[2..6].try_into().unwrap()) as usize;
        all.resize(6 + length, 0);
        self.stream.read_exact(&mut all[6..]).await.unwrap();
        read_pdu(&*all, u32::MAX - 7, false).unwrap().unwrap()
    }

    pub async fn release(mut self) {
        self.send(&Pdu::ReleaseRQ).await;
        assert_eq!(self.read().await, Pdu::ReleaseRP);
    }

    /// The context by which a class was accepted.
    pub fn context(&self, class: &str) -> u8 {
        let at = self.classes.iter().position(|known| known == class).unwrap();
        self.accepted[at].id
    }

    /// Sends a message with or without a data set.
    pub async fn message(
        &mut self,
        context: u8,
        command: &[(u16, &[u8])],
        data_set: Option<&[u8]>,
    ) {
        let kind = if data_set.is_some() { 1_u16 } else { 0x0101 };
        let mut elements: Vec<(u16, Vec<u8>)> =
            command.iter().map(|(element, value)| (*element, value.to_vec())).collect();
        elements.push((0x0800, kind.to_le_bytes().to_vec()));
        elements.sort();
        let mut bytes = Vec::new();
        for (element, mut value) in elements {
            if value.len() % 2 == 1 {
                value.push(0);
            }
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&element.to_le_bytes());
            bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&value);
        }
        self.value(context, PDataValueType::Command, true, &bytes).await;
        let Some(data_set) = data_set else { return };
        let mut pieces = data_set.chunks(10_000).peekable();
        while let Some(piece) = pieces.next() {
            self.value(context, PDataValueType::Data, pieces.peek().is_none(), piece).await;
        }
    }

    pub async fn value(&mut self, context: u8, kind: PDataValueType, is_last: bool, data: &[u8]) {
        let (presentation_context_id, value_type, data) = (context, kind, data.to_vec());
        let value = PDataValue { presentation_context_id, value_type, is_last, data };
        self.send(&Pdu::PData { data: vec![value] }).await;
    }

    fn next(&mut self) -> u16 {
        self.message += 1;
        self.message
    }

    pub async fn echo(&mut self) -> Answer {
        let message = self.next();
        let command: [(u16, &[u8]); 3] = [
            (0x0002, VERIFICATION.as_bytes()),
            (0x0100, &0x0030_u16.to_le_bytes()),
            (0x0110, &message.to_le_bytes()),
        ];
        self.message(self.context(VERIFICATION), &command, None).await;
        self.answer().await
    }

    pub async fn store(&mut self, instance: &str, data_set: &[u8]) -> Answer {
        self.store_as(CT, instance, data_set).await
    }

    pub async fn store_as(&mut self, class: &str, instance: &str, data_set: &[u8]) -> Answer {
        let message = self.next();
        let command: [(u16, &[u8]); 5] = [
            (0x0002, class.as_bytes()),
            (0x0100, &0x0001_u16.to_le_bytes()),
            (0x0110, &message.to_le_bytes()),
            (0x0700, &[0, 0]),
            (0x1000, instance.as_bytes()),
        ];
        self.message(self.context(class), &command, Some(data_set)).await;
        let answer = self.answer().await;
        assert_eq!((answer.field, answer.message), (0x8001, message));
        answer
    }

    /// Asks by an identifier; the message's number.
    pub async fn ask(&mut self, class: &str, field: u16, keys: &[u8], to: Option<&str>) -> u16 {
        let message = self.next();
        let (field, id) = (field.to_le_bytes(), message.to_le_bytes());
        let mut command: Vec<(u16, &[u8])> =
            vec![(0x0002, class.as_bytes()), (0x0100, &field), (0x0110, &id), (0x0700, &[0, 0])];
        if let Some(to) = to {
            command.push((0x0600, to.as_bytes()));
        }
        self.message(self.context(class), &command, Some(keys)).await;
        message
    }

    fn find_class(&self) -> &'static str {
        let all = [STUDY_FIND, PATIENT_FIND];
        all.into_iter().find(|class| self.classes.iter().any(|known| known == class)).unwrap()
    }

    pub async fn begin_find(&mut self, keys: &[u8]) -> u16 {
        self.ask(self.find_class(), 0x0020, keys, None).await
    }

    pub async fn find(&mut self, keys: &[u8]) -> Vec<Answer> {
        self.begin_find(keys).await;
        self.answers().await
    }

    /// Cancels a message of the first context.
    pub async fn cancel(&mut self, message: u16) {
        let command: [(u16, &[u8]); 2] =
            [(0x0100, &0x0FFF_u16.to_le_bytes()), (0x0120, &message.to_le_bytes())];
        self.message(self.accepted[0].id, &command, None).await;
    }

    /// All answers to a message, the last one included.
    pub async fn answers(&mut self) -> Vec<Answer> {
        let mut all = Vec::new();
        loop {
            let answer = self.answer().await;
            let is_pending = answer.status & 0xFF00 == 0xFF00;
            all.push(answer);
            if !is_pending {
                return all;
            }
        }
    }

    /// The next message, whole.
    pub async fn answer(&mut self) -> Answer {
        let (mut command, mut bytes) = (Vec::new(), Vec::new());
        let mut read: Option<Answer> = None;
        loop {
            let Pdu::PData { data } = self.read().await else { panic!("no P-DATA-TF") };
            for mut value in data {
                if value.value_type == PDataValueType::Command {
                    command.append(&mut value.data);
                    if value.is_last {
                        let (answer, has_data) = read_command(&command);
                        let context = value.presentation_context_id;
                        read = Some(Answer { context, ..answer });
                        if !has_data {
                            return read.unwrap();
                        }
                    }
                } else {
                    bytes.append(&mut value.data);
                    if value.is_last {
                        let mut answer = read.unwrap();
                        answer.values = values(&bytes);
                        answer.bytes = bytes;
                        return answer;
                    }
                }
            }
        }
    }

    /// Answers a C-STORE.
    pub async fn stored(&mut self, of: &Answer, status: u16) {
        let command: [(u16, &[u8]); 5] = [
            (0x0002, CT.as_bytes()),
            (0x0100, &0x8001_u16.to_le_bytes()),
            (0x0120, &of.message.to_le_bytes()),
            (0x0900, &status.to_le_bytes()),
            (0x1000, of.instance.as_bytes()),
        ];
        self.message(of.context, &command, None).await;
    }
}

fn read_command(mut bytes: &[u8]) -> (Answer, bool) {
    let mut answer = Answer::default();
    let mut has_data = false;
    while !bytes.is_empty() {
        let element = u16::from_le_bytes([bytes[2], bytes[3]]);
        let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
        let (value, rest) = bytes[8..].split_at(length);
        let number = || u16::from_le_bytes([value[0], value[1]]);
        let text = || String::from_utf8_lossy(value).trim_matches(['\0', ' ']).to_owned();
        match element {
            0x0100 => answer.field = number(),
            0x0110 | 0x0120 => answer.message = number(),
            0x0800 => has_data = number() != 0x0101,
            0x0900 => answer.status = number(),
            0x0902 => answer.comment = text(),
            0x1000 => answer.instance = text(),
            0x1020..=0x1023 => answer.counts[usize::from(element - 0x1020)] = Some(number()),
            _ => {}
        }
        bytes = rest;
    }
    (answer, has_data)
}

/// The texts of a flat data set in Explicit VR; what cannot be read so is left out.
fn values(mut bytes: &[u8]) -> BTreeMap<(u16, u16), String> {
    let mut found = BTreeMap::new();
    while bytes.len() >= 8 {
        let tag =
            (u16::from_le_bytes([bytes[0], bytes[1]]), u16::from_le_bytes([bytes[2], bytes[3]]));
        let long = ["OB", "OW", "SQ", "UN", "UT", "UC", "UR"];
        let is_long = long.iter().any(|vr| vr.as_bytes() == &bytes[4..6]);
        let (start, length) = match is_long {
            true => (12, u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize),
            false => (8, usize::from(u16::from_le_bytes([bytes[6], bytes[7]]))),
        };
        let Some(value) = bytes.get(start..start + length) else { break };
        let text = String::from_utf8_lossy(value).trim_matches(['\0', ' ']).to_owned();
        found.insert(tag, text);
        bytes = &bytes[start + length..];
    }
    found
}

/// The data set of a Part 10 file.
pub fn data_set(file: &[u8]) -> &[u8] {
    let length = u32::from_le_bytes(file[140..144].try_into().unwrap()) as usize;
    &file[144 + length..]
}
