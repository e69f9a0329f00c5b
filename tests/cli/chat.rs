//! `thalweg chat`, through pipes and through a pseudo-terminal.

use std::path::Path;

use thalweg::files::Tokenizer;
use thalweg::{ChatTemplate, Message};

use super::{decoder, model, run, run_with};

const TEMPLATE: &str = "{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% endfor %}\
                        {% if add_generation_prompt %}[assistant]{% endif %}";

/// A small language model with random weights, with a chat template or without.
fn talking(template: Option<&str>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(decoder("llama_gqa")).expect("the fixture") {
        let path = entry.expect("an entry").path();
        if path.file_name().is_some_and(|name| name != "expected.safetensors") {
            std::fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("a copy");
        }
    }
    if let Some(template) = template {
        std::fs::write(folder.path().join("chat_template.jinja"), template).expect("written");
    }
    folder
}

/// What `generate` makes of the conversation.
fn expected(folder: &Path, messages: &[Message], options: &[&str]) -> String {
    let template = ChatTemplate::open(folder).expect("a template").unwrap_or_else(ChatTemplate::neutral);
    let tokenizer = Tokenizer::open(folder).expect("a tokenizer");
    let ids = template.encode(&tokenizer, messages, true).expect("ids");
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    let start = ["generate", "--model", folder.to_str().expect("UTF-8"), "--ids", &ids.join(" "), "--json"];
    let json = run(&[&start[..], options].concat()).ok().json().remove(0);
    json["text"].as_str().expect("a text").to_string()
}

#[test]
fn lines_through_a_pipe_are_answered() {
    for (template, stop) in [(Some(TEMPLATE), &[][..]), (None, &["--stop", "\nUser:"])] {
        let folder = talking(template);
        let path = folder.path().to_str().expect("UTF-8");
        let options = ["--max-tokens", "9", "--ignore-eos"];
        let arguments = [&["chat", "--model", path, "--system", "Be wet."][..], &options].concat();
        let run = run_with(&arguments, b"the river\n\n/nonsense\nand water?\r\n/exit\nnot read\n");
        assert_eq!(run.code, 0, "{}", run.stderr);
        let options = [&options[..], stop].concat();
        let mut messages = vec![Message::system("Be wet."), Message::user("the river")];
        let first = expected(folder.path(), &messages, &options);
        messages.extend([Message::assistant(first.trim()), Message::user("and water?")]);
        let second = expected(folder.path(), &messages, &options);
        assert_eq!(run.stdout, format!("{}\n{}\n", first.trim_start(), second.trim_start()));
        assert_eq!(run.stderr.matches("done: 9 tokens written").count(), 2, "{}", run.stderr);
        assert!(run.stderr.contains("no command /nonsense"), "{}", run.stderr);
        assert_eq!(run.stderr.contains("no chat template"), template.is_none(), "{}", run.stderr);
        // the second turn reads only what is new
        let read = run.stderr.lines().rfind(|line| line.starts_with("done")).expect("a line");
        let numbers: Vec<usize> = read.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
        let of = read.split(" of ").next().and_then(|before| before.rsplit(' ').next()).expect("a number");
        assert!(of.parse::<usize>().expect("a number") < 40 && numbers.iter().any(|&n| n > 40), "{read}");
    }
}

#[test]
fn odd_models_and_templates_are_told() {
    // without a model the embedded one talks; there is nothing to read here
    let embedded = run(&["chat"]);
    assert_eq!((embedded.code, embedded.stdout.as_str()), (0, ""), "{}", embedded.stderr);
    run(&["chat", "--model", &model("bert_odd")]).fails(4, &["encoder"]);
    run(&["chat", "--model", &decoder("llama_gqa"), "--top-p", "0"]).fails(4, &["top"]);
    let folder = talking(Some("{% for"));
    let path = folder.path().to_str().expect("UTF-8");
    run(&["chat", "--model", path]).fails(4, &["chat_template.jinja", "syntax"]);
    // a template that refuses does not end the conversation
    let folder = talking(Some(
        "{% if messages|length > 1 or 'no' in messages[0].content %}{{ raise_exception('not so') }}{% endif %}a",
    ));
    let path = folder.path().to_str().expect("UTF-8");
    let run = run_with(&["chat", "--model", path, "--max-tokens", "2", "--ignore-eos"], b"no\nyes\n");
    assert_eq!((run.code, run.stdout.is_empty()), (0, false), "{}", run.stderr);
    assert!(
        run.stderr.contains("refuses these messages: `not so`") && run.stderr.contains("done: 2"),
        "{}",
        run.stderr
    );
}

/// More turns than the model's 84 positions hold: the oldest are left out, and a message too long alone is refused.
#[test]
fn long_conversations_leave_out_their_beginning() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in
        ["config.json", "model.safetensors", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
    {
        std::fs::copy(format!("{}/{name}", decoder("gpt2_odd")), folder.path().join(name)).expect("a copy");
    }
    let path = folder.path().to_str().expect("UTF-8");
    let input = format!("{}/save {path}/saved.json\n", "the river carries water\n".repeat(8) + &"x".repeat(200) + "\n");
    let run = run_with(&["chat", "--model", path, "--max-tokens", "4", "--ignore-eos"], input.as_bytes());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("left out") && run.stderr.contains("more than the 84"), "{}", run.stderr);
    let saved: Vec<Message> =
        serde_json::from_slice(&std::fs::read(folder.path().join("saved.json")).expect("a file")).expect("messages");
    assert_eq!(saved.len(), 16, "all of the history, without what was refused");
}

#[cfg(unix)]
mod terminal {
    use super::super::thalweg;
    use super::*;
    use rexpect::session::{PtySession, spawn_command};
    use serde_json::Value;
    use std::process::{Command, Stdio};

    /// rustyline is done with the line, and something that is no control sequence comes.
    const ANSWER: &str = "2004l[\r\n]*[^\x1b\r\n]";

    fn open(path: &str, more: &[&str]) -> PtySession {
        let mut command: Command = thalweg(&[&["chat", "--model", path][..], more].concat());
        command.stdin(Stdio::inherit()).env("TERM", "xterm");
        let mut session = spawn_command(command, Some(120_000)).expect("a terminal");
        session.exp_string("> ").expect("a prompt");
        session
    }

    /// The exit code, once the terminal is closed.
    fn code(mut session: PtySession) -> i32 {
        let _ = session.exp_eof();
        // rexpect does not export the type of this
        let status = format!("{:?}", session.process().wait().expect("it ends"));
        let code = status.trim_end_matches(')').rsplit(' ').next().filter(|_| status.starts_with("Exited"));
        code.and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{status}"))
    }

    fn saved(session: &mut PtySession, folder: &Path) -> Vec<Value> {
        let path = folder.join("saved.json");
        session.send_line(&format!("/save {}", path.display())).expect("sent");
        session.exp_regex("note: [0-9]+ messages? in").expect("saved");
        session.exp_string("> ").expect("a prompt");
        let list: Value = serde_json::from_slice(&std::fs::read(path).expect("the file")).expect("JSON");
        list.as_array().expect("a list").clone()
    }

    #[test]
    fn a_conversation_in_a_terminal() {
        let folder = talking(Some(TEMPLATE));
        let mut session = open(folder.path().to_str().expect("UTF-8"), &["--max-tokens", "6", "--ignore-eos"]);
        session.send_line("the river").expect("sent");
        session.exp_string("done: 6 tokens written").expect("an answer");
        session.exp_string("> ").expect("a prompt");
        let messages = saved(&mut session, folder.path());
        let answer = expected(folder.path(), &[Message::user("the river")], &["--max-tokens", "6", "--ignore-eos"]);
        assert_eq!(messages[0], serde_json::json!({"role": "user", "content": "the river"}));
        assert_eq!(messages[1], serde_json::json!({"role": "assistant", "content": answer.trim()}));
        session.send_line("/reset").expect("sent");
        session.exp_string("forgotten").expect("a word");
        session.exp_string("> ").expect("a prompt");
        assert!(saved(&mut session, folder.path()).is_empty());
        // arrow up, four times: past /save, /reset and /save to the message
        session.send("\x1b[A\x1b[A\x1b[A\x1b[A\r").expect("sent");
        session.flush().expect("flushed");
        session.exp_string("done: 6 tokens written").expect("an answer");
        session.exp_string("> ").expect("a prompt");
        assert_eq!(saved(&mut session, folder.path()), messages);
        session.send_control('d').expect("sent");
        assert_eq!(code(session), 0);
    }

    #[test]
    fn ctrl_c_stops_an_answer_and_not_the_program() {
        let folder = talking(Some(TEMPLATE));
        let mut session = open(folder.path().to_str().expect("UTF-8"), &["--max-tokens", "1900", "--ignore-eos"]);
        session.send_line("/help").expect("sent");
        session.exp_string("note: /reset").expect("help");
        session.exp_string("> ").expect("a prompt");
        session.send_line("the river").expect("sent");
        session.exp_regex(ANSWER).expect("some of the answer");
        std::thread::sleep(std::time::Duration::from_millis(300));
        session.send_control('c').expect("sent");
        let (_, said) = session.exp_regex("stopped: [0-9]+ tokens? written").expect("stopped");
        let tokens: usize = said.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
        assert!(tokens > 0 && tokens < 1900, "{said}");
        session.exp_string("> ").expect("a prompt");
        let messages = saved(&mut session, folder.path());
        assert_eq!(messages.len(), 2, "the beginning of the answer stays");
        session.send_line("and water").expect("sent");
        session.exp_regex(ANSWER).expect("some of the answer");
        std::thread::sleep(std::time::Duration::from_millis(300));
        session.send_control('c').expect("sent");
        session.exp_string("stopped: ").expect("stopped again");
        session.exp_string("> ").expect("a prompt");
        session.send_control('c').expect("sent");
        session.exp_string("Ctrl-C again").expect("told");
        session.exp_string("> ").expect("a prompt");
        session.send_control('c').expect("sent");
        assert_eq!(code(session), 130);
    }
}
