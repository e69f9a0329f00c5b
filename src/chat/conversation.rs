//! A conversation with a model: the history, and a session that is kept in step with it.

use super::{ChatTemplate, Message};
use crate::decode::{Decoder, Session, SessionOptions, TextStream};
use crate::files::Tokenizer;
use crate::task::Task;
use crate::{Error, Result};

/// How a conversation goes.
#[derive(Clone, Debug)]
pub struct ChatOptions {
    /// How answers are chosen, and what cancels them.
    pub session: SessionOptions,
    /// What the model is told about itself, in front of all turns.
    pub system: Option<String>,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Strings before which an answer ends, besides the template's own.
    pub stops: Vec<String>,
    /// A template instead of the model's.
    pub template: Option<ChatTemplate>,
}

impl Default for ChatOptions {
    /// No system message, answers of at most 1024 tokens, the model's template.
    fn default() -> Self {
        let (system, template) = (None, None);
        ChatOptions { session: SessionOptions::default(), system, max_tokens: 1024, stops: Vec::new(), template }
    }
}

/// What a question has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Tokens of the whole prompt.
    pub tokens: usize,
    /// How many of them, from the first, the session held already.
    pub reused: usize,
    /// How many messages of the history are left out, for want of room, from now on.
    pub left_out: usize,
}

/// Why an answer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The model has chosen a token that ends a text.
    Eos,
    /// A stop string was complete.
    Stop,
    /// It has as many tokens as it may have, or the model takes no more.
    Length,
}

/// A conversation. [`Chat::ask`] puts a message in, [`Chat::next`] brings the answer piece by piece, and
/// [`Chat::end`] puts what came of it into the history.
///
/// Each turn prefills only what the session does not hold yet. Where the history and room for an answer (`max_tokens`,
/// but at most a quarter of what the model takes) do not fit any more, the oldest turns are left out of the prompt,
/// until three quarters are used at most, so that it does not happen at each turn; the system message stays, and so
/// does [`Chat::messages`].
#[derive(Debug)]
pub struct Chat<'a> {
    decoder: &'a Decoder,
    template: ChatTemplate,
    options: ChatOptions,
    messages: Vec<Message>,
    /// How many messages after the system's are not in the prompt any more.
    left_out: usize,
    session: Session,
    answer: Option<Answer<'a>>,
}

#[derive(Debug)]
struct Answer<'a> {
    stream: TextStream<&'a Tokenizer>,
    text: String,
    tokens: usize,
    end: Option<End>,
}

impl<'a> Chat<'a> {
    /// A conversation in the model's own template, or in [`ChatTemplate::neutral`] where it has none.
    ///
    /// # Errors
    /// [`Error::File`] for a damaged template or a model without tokenizer; [`Error::Input`] for an empty stop string;
    /// else as [`Decoder::session`].
    pub fn new(decoder: &'a Decoder, options: ChatOptions) -> Result<Self> {
        let template = match &options.template {
            Some(template) => template.clone(),
            None => decoder.model().chat_template()?.unwrap_or_else(ChatTemplate::neutral),
        };
        let session = decoder.session(options.session.clone())?;
        let mut chat = Chat { decoder, template, options, messages: Vec::new(), left_out: 0, session, answer: None };
        chat.stream()?;
        chat.reset();
        Ok(chat)
    }

    /// Forgets everything but the system message.
    pub fn reset(&mut self) {
        self.answer = None;
        self.left_out = 0;
        self.messages = self.options.system.iter().map(Message::system).collect();
    }

    /// All messages so far, in order; an answer is among them when it has ended.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The template of this conversation.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// Cancels and watches from now on.
    pub fn set_task(&mut self, task: Task) {
        self.session.set_task(task);
    }

    /// Puts a person's message in and reads the prompt, as far as the session has not yet. An answer that has not
    /// ended is ended.
    ///
    /// # Errors
    /// [`Error::TooLong`] where the message alone is too long, [`Error::File`] where the template refuses or fails;
    /// else as [`Session::prefill`]. The message is taken back then.
    pub async fn ask(&mut self, text: &str) -> Result<Asked> {
        self.end()?;
        self.messages.push(Message::user(text));
        let outcome = self.read().await;
        if outcome.is_err() {
            self.messages.pop();
        }
        outcome
    }

    /// [`Chat::ask`], blocking the calling thread.
    pub fn ask_blocking(&mut self, text: &str) -> Result<Asked> {
        pollster::block_on(self.ask(text))
    }

    /// The next piece of the answer, which may be empty; `None` when it has ended, see [`Chat::ended`].
    ///
    /// # Errors
    /// [`Error::Input`] before anything was asked; else as [`Session::next_token`]. After [`Error::Cancelled`] the
    /// answer can go on, or be ended.
    pub async fn next(&mut self) -> Result<Option<String>> {
        let limit = self.decoder.max_tokens();
        let answer = self.answer.as_mut().ok_or_else(|| Error::Input("nothing was asked".into()))?;
        if answer.end.is_some() {
            return Ok(None);
        }
        if answer.tokens >= self.options.max_tokens || self.session.tokens().len() > limit {
            answer.end = Some(End::Length);
        } else if let Some(id) = self.session.next_token().await? {
            answer.tokens += 1;
            let piece = answer.stream.push(id)?;
            answer.text.push_str(&piece);
            answer.end = answer.stream.stopped().then_some(End::Stop);
            return Ok(Some(piece));
        } else {
            answer.end = Some(End::Eos);
        }
        let rest = answer.stream.finish()?;
        answer.text.push_str(&rest);
        Ok(Some(rest))
    }

    /// [`Chat::next`], blocking the calling thread.
    pub fn next_blocking(&mut self) -> Result<Option<String>> {
        pollster::block_on(self.next())
    }

    /// Why the answer has ended; `None` while it goes on.
    pub fn ended(&self) -> Option<End> {
        self.answer.as_ref().and_then(|answer| answer.end)
    }

    /// Tokens of the answer so far.
    pub fn answered(&self) -> usize {
        self.answer.as_ref().map_or(0, |answer| answer.tokens)
    }

    /// Puts the answer into the history, be it only a part, and returns the text that was held back because more could
    /// have changed it. Without an answer nothing happens.
    ///
    /// # Errors
    /// As for [`TextStream::finish`].
    pub fn end(&mut self) -> Result<String> {
        let Some(mut answer) = self.answer.take() else { return Ok(String::new()) };
        let rest = if answer.end.is_none() { answer.stream.finish() } else { Ok(String::new()) };
        answer.text.push_str(rest.as_deref().unwrap_or_default());
        self.messages.push(Message::assistant(answer.text.trim()));
        rest
    }

    fn stream(&self) -> Result<TextStream<&'a Tokenizer>> {
        let stops: Vec<&str> =
            self.options.stops.iter().map(String::as_str).chain(self.template.stops().iter().copied()).collect();
        TextStream::new(self.decoder.model().tokenizer()?, &stops)
    }

    /// Brings the session in step with the history.
    async fn read(&mut self) -> Result<Asked> {
        let stream = self.stream()?;
        let (ids, left_out) = self.prompt()?;
        let held = self.session.tokens();
        let reused = held.iter().zip(&ids).take_while(|(a, b)| a == b).count();
        self.session.truncate(reused);
        self.session.prefill(&ids[reused..]).await?;
        self.left_out = left_out;
        self.answer = Some(Answer { stream, text: String::new(), tokens: 0, end: None });
        Ok(Asked { tokens: ids.len(), reused, left_out })
    }

    /// The prompt's ids, and how many messages it leaves out.
    fn prompt(&self) -> Result<(Vec<u32>, usize)> {
        let tokenizer = self.decoder.model().tokenizer()?;
        let limit = self.decoder.max_tokens();
        let room = self.options.max_tokens.min(limit / 4);
        let system = self.messages.iter().take_while(|message| message.role == "system").count();
        let mut left_out = self.left_out;
        let mut most = limit - room;
        loop {
            let (head, tail) = self.messages.split_at(system);
            let messages = [head, &tail[left_out..]].concat();
            let ids = self.template.encode(tokenizer, &messages, true)?;
            if ids.is_empty() {
                return Err(Error::Input("the conversation has no tokens".into()));
            }
            if ids.len() <= most {
                return Ok((ids, left_out));
            }
            most = (limit - room) / 4 * 3;
            let turn = tail.iter().skip(left_out + 1).position(|message| message.role == "user");
            match turn {
                Some(turn) => left_out += turn + 1,
                // only this message is left: it may take what an answer would
                None if ids.len() < limit => return Ok((ids, left_out)),
                None => return Err(Error::TooLong { tokens: ids.len(), limit }),
            }
        }
    }
}
