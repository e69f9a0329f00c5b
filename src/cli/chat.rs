//! `thalweg chat`: a conversation in a terminal, or line by line through pipes.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor};
use thalweg::chat::Asked;
use thalweg::{ChatOptions, Error, LoadOptions, RUSTBOOK, SessionOptions, Task};

use super::changes::Changes;
use super::choice::Choice;
use super::{Context, count, progress, say};

const NOTES: &str = "Each line is a message. In a terminal, arrow keys edit it and bring back earlier ones; through a pipe, \
lines are read to the end, and only answers are printed. Lines that begin with a slash are commands:

  /reset      forgets the conversation, but for the system message
  /save FILE  writes the conversation as JSON: [{\"role\":\"user\",\"content\":\"…\"},…]
  /help       says this
  /exit       ends, as Ctrl-D does

Ctrl-C stops an answer, whose beginning stays in the conversation. At the prompt it clears the line; pressed again there, it \
ends the program with exit code 130. After each answer a line on standard error says how many tokens were read and written, \
and how fast.

The conversation is put into the model's own form by its chat template. A model without one gets \"User: …\" and \
\"Assistant: …\", and its answers end before the next \"User:\". When the conversation has become longer than the model takes, \
the oldest turns are left out of what it sees; the system message stays.

Example:
  thalweg chat --model SmolLM2-135M-Instruct --system \"Answer in one sentence.\"";

const COMMANDS: &str =
    "/reset forgets the conversation, /save FILE writes it as JSON, /exit or Ctrl-D ends, Ctrl-C stops an answer";

/// Talks with a language model
#[derive(Args)]
#[command(after_help = NOTES, allow_negative_numbers = true)]
pub struct Chat {
    /// Hugging Face folder, GGUF file, or the name of a model in the cache; else a small model of Rust's documentation
    #[arg(long, value_name = "M", default_value = RUSTBOOK, hide_default_value = true)]
    model: PathBuf,
    /// What the model is told about itself, in front of all turns
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_tokens: usize,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    changes: Changes,
}

/// Where messages come from.
enum Input {
    Terminal(Box<Editor<(), MemHistory>>),
    Lines { prompt: bool },
}

/// What was typed.
enum Line {
    Text(String),
    /// Ctrl-C at the prompt.
    Interrupted,
    End,
}

impl Chat {
    /// Runs the subcommand.
    pub fn run(&self, context: &Context) -> Result<()> {
        let sampling = self.choice.sampling();
        sampling.validate()?;
        let decoder = context.decoder(&self.model, LoadOptions::default())?;
        let options = ChatOptions {
            session: SessionOptions {
                sampling,
                ignore_eos: self.choice.ignore_eos,
                edits: self.changes.load(decoder.model())?.into(),
                ..Default::default()
            },
            system: self.system.clone(),
            max_tokens: self.max_tokens,
            stops: self.choice.stop.clone(),
            template: None,
        };
        let mut chat = thalweg::Chat::new(&decoder, options)?;
        if chat.template().is_neutral() {
            say("note", "the model has no chat template; turns begin with \"User:\" and \"Assistant:\"");
        }
        let mut input = Input::open()?;
        let mut interrupted = false;
        loop {
            let line = match input.line()? {
                Line::Text(line) => line,
                Line::Interrupted if interrupted => return Err(Error::Cancelled.into()),
                Line::Interrupted => {
                    interrupted = true;
                    say("note", "Ctrl-C again or Ctrl-D ends");
                    continue;
                }
                Line::End => return Ok(()),
            };
            interrupted = false;
            let line = line.trim();
            let (command, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            match command {
                "" => {}
                "/exit" | "/quit" => return Ok(()),
                "/help" => say("note", COMMANDS),
                "/reset" => {
                    chat.reset();
                    say("note", "the conversation is forgotten");
                }
                "/save" => save(&chat, argument.trim()),
                _ if command.starts_with('/') => say("error", &format!("there is no command {command}; {COMMANDS}")),
                _ => match answer(context, &mut chat, line) {
                    // what only this message is to blame for does not end the conversation
                    Err(error) if matches!(error.downcast_ref(), Some(Error::TooLong { .. } | Error::File { .. })) => {
                        say("error", &error.to_string());
                    }
                    outcome => outcome?,
                },
            }
        }
    }
}

/// Asks, and prints the answer as it is written. Ctrl-C stops it.
fn answer(context: &Context, chat: &mut thalweg::Chat, text: &str) -> Result<()> {
    let cancel = context.part.begin();
    let bar = progress::reading(0);
    chat.set_task(progress::task(&bar, &cancel));
    let start = Instant::now();
    let asked = chat.ask_blocking(text);
    bar.finish_and_clear();
    let asked = match asked {
        Err(Error::Cancelled) => {
            context.part.end();
            say("note", "stopped before the answer; the message is taken back");
            return Ok(());
        }
        asked => asked.inspect_err(|_| context.part.end())?,
    };
    let read = start.elapsed();
    chat.set_task(Task { cancel, progress: None });
    let mut first = None;
    let outcome = write(chat, start, &mut first);
    context.part.end();
    let stopped = outcome.as_ref().is_err_and(|error| matches!(error.downcast_ref(), Some(Error::Cancelled)));
    let answered = chat.answered();
    let rest = chat.end()?;
    let mut out = io::stdout().lock();
    writeln!(out, "{rest}")?;
    out.flush()?;
    if !stopped {
        outcome?;
    }
    summary(&asked, answered, read, start.elapsed().saturating_sub(first.unwrap_or_default()), stopped);
    Ok(())
}

fn write(chat: &mut thalweg::Chat, start: Instant, first: &mut Option<Duration>) -> Result<()> {
    let mut begun = false;
    while let Some(piece) = chat.next_blocking()? {
        first.get_or_insert_with(|| start.elapsed());
        // templates differ in whether the space after `assistant:` is a part of the answer
        let piece = if begun { &piece[..] } else { piece.trim_start() };
        begun |= !piece.is_empty();
        let mut out = io::stdout().lock();
        out.write_all(piece.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

fn summary(asked: &Asked, answered: usize, read: Duration, written: Duration, stopped: bool) {
    let rate = |tokens: usize, time: Duration| {
        if tokens == 0 || time.is_zero() {
            String::new()
        } else {
            format!(" ({:.1}/s)", tokens as f64 / time.as_secs_f64())
        }
    };
    let new = asked.tokens - asked.reused;
    let left_out = if asked.left_out > 0 {
        format!(", the oldest {} left out", count(asked.left_out as u64, "message"))
    } else {
        String::new()
    };
    // the first token is written with the last of the prompt
    let speed = rate(answered.saturating_sub(1), written);
    let what = format!(
        "{} written{speed}, {new} of {} read{}{left_out}",
        count(answered as u64, "token"),
        asked.tokens,
        rate(new.saturating_sub(1), read)
    );
    say(if stopped { "stopped" } else { "done" }, &what);
}

fn save(chat: &thalweg::Chat, file: &str) {
    if file.is_empty() {
        return say("error", "/save needs the name of a file");
    }
    let messages = serde_json::to_vec_pretty(chat.messages()).map_err(io::Error::other);
    let written = messages.and_then(|mut json| {
        json.push(b'\n');
        std::fs::write(Path::new(file), json)
    });
    match written {
        Ok(()) => say("note", &format!("{} in {file}", count(chat.messages().len() as u64, "message"))),
        Err(error) => say("error", &Error::io(file, error).to_string()),
    }
}

impl Input {
    fn open() -> Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(Input::Lines { prompt: io::stdin().is_terminal() });
        }
        let config = Config::builder().auto_add_history(true).build();
        Ok(Input::Terminal(Box::new(Editor::with_history(config, MemHistory::new())?)))
    }

    fn line(&mut self) -> Result<Line> {
        match self {
            Input::Terminal(editor) => match editor.readline("> ") {
                Ok(line) => Ok(Line::Text(line)),
                Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
                Err(ReadlineError::Eof) => Ok(Line::End),
                Err(error) => Err(Error::Input(format!("cannot read the terminal: {error}")).into()),
            },
            Input::Lines { prompt } => {
                if *prompt {
                    let _ = write!(io::stderr(), "> ");
                }
                let mut line = String::new();
                match io::stdin().lock().read_line(&mut line) {
                    Ok(0) => Ok(Line::End),
                    Ok(_) => Ok(Line::Text(line)),
                    Err(error) => Err(Error::io("standard input", error).into()),
                }
            }
        }
    }
}
