//! Sessions: the same bits whatever happens to them, what a step costs, where they end, and what is refused.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::{Expected, GPU, bits, decoder, fixtures, go_on, session};
use thalweg::{CancelToken, Decoder, Dtype, Error, Gpu, LoadOptions, Sampling, Session, SessionOptions, Task};

fn expected(name: &str) -> Expected {
    Expected::open(&format!("decoders/{name}"))
}

/// Saved and reloaded, forked, truncated and batched sessions go on with the bits of one that was left alone.
#[test]
fn sessions_keep_their_bits() {
    for name in ["llama_gqa", "gemma2_odd", "gpt2_odd", "phi3_longrope", "llama_dynamic", "neox_parallel", "olmo2_odd"]
    {
        let expected = expected(name);
        let decoder = decoder(&GPU, name, Dtype::Auto);
        let start = || {
            let mut session = session(&decoder);
            session.prefill_blocking(&expected.ids("ids")).unwrap();
            session
        };
        // the logits of every step of a session that nothing happens to
        let mut alone = start();
        let trail: Vec<_> = (0..24)
            .map(|_| {
                let logits = bits(&alone.logits_blocking().unwrap());
                (alone.next_token_blocking().unwrap(), logits)
            })
            .collect();
        let follow = |session: &mut Session, from: usize, what: &str| {
            for (step, (token, logits)) in trail.iter().enumerate().skip(from) {
                assert_eq!(bits(&session.logits_blocking().unwrap()), *logits, "{name}, {what}: step {step}");
                assert_eq!(session.next_token_blocking().unwrap(), *token, "{name}, {what}: step {step}");
            }
        };
        let mut first = start();
        go_on(&mut first, 5);
        // a fork, whose original goes another way
        let mut fork = first.fork();
        // not so far that a rotary embedding changes its frequencies: the cache would be made anew, as it is for a prompt
        first.prefill_blocking(&[3]).unwrap();
        go_on(&mut first, 1);
        follow(&mut fork, 5, "forked");
        // the original comes back
        first.truncate(expected.ids("ids").len() + 5);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.safetensors");
        first.save_blocking(&path).unwrap();
        follow(&mut first, 5, "truncated");
        let options = SessionOptions { ignore_eos: true, ..Default::default() };
        let mut loaded = decoder.load_session_blocking(&path, options).unwrap();
        follow(&mut loaded, 5, "loaded");
        // beside sessions of other lengths
        let mut sessions = [start(), session(&decoder), start()];
        sessions[1].prefill_blocking(&[5, 4]).unwrap();
        go_on(&mut sessions[2], 9);
        for (step, (token, _)) in trail.iter().enumerate().take(12) {
            let [a, b, c] = &mut sessions;
            let chosen = decoder.step_blocking(&mut [b, a, c]).unwrap();
            assert_eq!(chosen[1], *token, "{name}, batched: step {step}");
        }
        let logits = bits(&sessions[0].logits_blocking().unwrap());
        assert_eq!(logits, trail[12].1, "{name}: after steps beside others");
    }
}

/// Forks that write in turn, and together, do not write over each other: as sessions that were never one.
#[test]
fn forks_go_their_own_ways() {
    let name = "gpt2_odd";
    let decoder = decoder(&GPU, name, Dtype::Auto);
    let trunk = || {
        let mut session = session(&decoder);
        session.prefill_blocking(&expected(name).ids("ids")).unwrap();
        go_on(&mut session, 5);
        session
    };
    let branch = |session: &mut Session, id: u32| {
        session.prefill_blocking(&[id, id + 1]).unwrap();
    };
    let alone = [3, 40, 70].map(|id| {
        let mut session = trunk();
        branch(&mut session, id);
        let text = go_on(&mut session, 8);
        (text, bits(&session.logits_blocking().unwrap()))
    });
    let first = trunk();
    let mut forks = [first.fork(), first.fork(), first];
    for (fork, id) in forks.iter_mut().zip([3, 40, 70]) {
        branch(fork, id);
    }
    for step in 0..8 {
        let [a, b, c] = &mut forks;
        // in turn, then together
        let chosen = match step % 2 {
            0 => [c, a, b].map(|fork| fork.next_token_blocking().unwrap()),
            _ => decoder.step_blocking(&mut [c, a, b]).unwrap().try_into().unwrap(),
        };
        let wanted = [2, 0, 1].map(|i: usize| Some(alone[i].0[step]));
        assert_eq!(chosen, wanted, "step {step}");
    }
    for (fork, (_, logits)) in forks.iter_mut().zip(&alone) {
        assert_eq!(bits(&fork.logits_blocking().unwrap()), *logits);
    }
}

/// A decode step allocates nothing, uploads little, and is one submission and one readback of one id.
#[test]
fn a_step_allocates_nothing() {
    let gpu = Gpu::new_blocking(Default::default()).unwrap();
    let decoder = decoder(&gpu, "qwen3_norm", Dtype::Auto);
    let mut session = decoder.session(SessionOptions { ignore_eos: true, ..Default::default() }).unwrap();
    session.prefill_blocking(&[1, 2, 3]).unwrap();
    let recorded: Vec<_> = decoder.decode_program().recording().dispatches().map(|d| d.variant.kernel).collect();
    // nothing is merged of sessions of one piece of keys
    let merges = recorded.iter().filter(|kernel| **kernel == "attention_merge").count();
    assert_eq!(merges, 2);
    let dispatches = (recorded.len() - merges) as u64;
    for _ in 0..80 {
        let before = gpu.counts();
        session.next_token_blocking().unwrap();
        let after = gpu.counts();
        let mut wanted = before;
        wanted.submissions += 1;
        wanted.readbacks += 1;
        wanted.dispatches += dispatches;
        assert_eq!(after, wanted);
    }
    // several sessions are one submission as well
    let mut others = [session.fork(), session.fork()];
    let [a, b] = &mut others;
    let mut all = [&mut session, a, b];
    decoder.step_blocking(&mut all).unwrap();
    let before = gpu.counts();
    decoder.step_blocking(&mut all).unwrap();
    let mut wanted = before;
    wanted.submissions += 1;
    wanted.readbacks += 1;
    wanted.dispatches += dispatches;
    assert_eq!(gpu.counts(), wanted);
}

#[test]
fn a_longer_session_is_merged() {
    let gpu = Gpu::new_blocking(Default::default()).unwrap();
    let decoder = decoder(&gpu, "llama_gqa", Dtype::Auto);
    let recorded = decoder.decode_program().recording().dispatches().count() as u64;
    let mut session = session(&decoder);
    session.prefill_blocking(&[3; 255]).unwrap();
    // 3 blocks, and 255, 256, then 257 tokens
    for merges in [0, 0, 3] {
        let before = gpu.counts().dispatches;
        session.next_token_blocking().unwrap().unwrap();
        assert_eq!(gpu.counts().dispatches - before, recorded - 3 + merges, "{} tokens", session.tokens().len());
    }
}

#[test]
fn a_session_ends_at_the_models_limit_and_at_ends_of_texts() {
    let decoder = decoder(&GPU, "gpt2_odd", Dtype::Auto);
    let limit = decoder.max_tokens();
    assert_eq!(limit, 84);
    let mut session = session(&decoder);
    let error = session.prefill_blocking(&vec![1; limit + 1]).unwrap_err();
    assert!(matches!(error, Error::TooLong { tokens: 85, limit: 84 }), "{error:?}");
    assert!(session.tokens().is_empty());
    assert!(matches!(session.next_token_blocking(), Err(Error::Input(_))));
    assert!(matches!(session.prefill_blocking(&[0, 1_000_000]), Err(Error::Input(_))));
    session.prefill_blocking(&vec![1; limit]).unwrap();
    session.next_token_blocking().unwrap().unwrap();
    for _ in 0..2 {
        assert!(matches!(session.next_token_blocking(), Err(Error::TooLong { tokens: 85, limit: 84 })));
    }
    session.truncate(10);
    go_on(&mut session, 3);
    assert_eq!(session.tokens().len(), 13);

    let name = "llama_gqa";
    let expected = expected(name);
    let at: usize = expected.0.metadata()["greedy_eos_at"].parse().unwrap();
    let decoder = common::decoder(&GPU, name, Dtype::Auto);
    let mut session = decoder.session(SessionOptions::default()).unwrap();
    session.prefill_blocking(&expected.ids("ids")).unwrap();
    for wanted in &expected.ids("greedy")[..at] {
        assert_eq!(session.next_token_blocking().unwrap(), Some(*wanted));
    }
    for _ in 0..2 {
        assert_eq!(session.next_token_blocking().unwrap(), None);
        assert!(session.has_ended());
    }
    let length = session.tokens().len();
    assert_eq!(length, expected.ids("ids").len() + at);
    // a text that has ended can be gone on with
    session.prefill_blocking(&[5, 6]).unwrap();
    session.next_token_blocking().unwrap();
    assert_eq!(&session.tokens()[length..length + 2], [5, 6]);
}

#[test]
fn encoders_and_decoders_are_not_mixed_up() {
    let encoder = thalweg::Encoder::load_blocking(&GPU, fixtures("decoders/llama_gqa")).err().unwrap();
    assert!(matches!(encoder, Error::Unsupported { .. }), "{encoder:?}");
    let decoder = Decoder::load_blocking(&GPU, fixtures("models/bert_odd")).err().unwrap();
    assert!(matches!(decoder, Error::Unsupported { .. }), "{decoder:?}");
    let one = common::decoder(&GPU, "gpt2_odd", Dtype::Auto);
    let other = common::decoder(&GPU, "gpt2_odd", Dtype::Auto);
    let mut session = session(&one);
    session.prefill_blocking(&[1]).unwrap();
    assert!(matches!(other.step_blocking(&mut [&mut session]), Err(Error::Input(_))));
}

/// Without any budget every block is a submission of its own, in prefill and in steps: the same bits.
#[test]
fn submissions_are_split_at_block_boundaries_only() {
    let (name, blocks) = ("qwen2_mixed", 4);
    let ids = expected(name).ids("ids");
    let mut whole = session(&decoder(&GPU, name, Dtype::Auto));
    whole.prefill_blocking(&ids).unwrap();
    let options = thalweg::GpuOptions { submission_budget: Some(std::time::Duration::ZERO), ..Default::default() };
    let gpu = Gpu::new_blocking(options).unwrap();
    let decoder = decoder(&gpu, name, Dtype::Auto);
    let mut split = session(&decoder);
    let before = gpu.counts().submissions;
    split.prefill_blocking(&ids).unwrap();
    let prefill = gpu.counts().submissions - before;
    // the embedding and each block; so few tokens of so small a model are one chunk
    assert_eq!(prefill, 1 + blocks);
    let logits = split.logits_blocking().unwrap();
    assert_eq!(bits(&logits), bits(&whole.logits_blocking().unwrap()));
    let before = gpu.counts().submissions;
    split.next_token_blocking().unwrap();
    // the head is one more
    assert_eq!(gpu.counts().submissions - before, 1 + blocks + 1);
    assert_eq!(go_on(&mut split, 9), go_on(&mut whole, 10)[1..]);
}

/// Threads share a decoder: each of their sessions writes what it would write alone, while the pool grows under them.
#[test]
fn threads_share_a_decoder() {
    let name = "llama_gqa";
    let expected = expected(name);
    let options = LoadOptions { context: Some(64), ..Default::default() };
    let decoder = Decoder::load_blocking(&GPU, fixtures(&format!("decoders/{name}"))).unwrap();
    let small = pollster::block_on(Decoder::load_with(&GPU, fixtures(&format!("decoders/{name}")), options)).unwrap();
    let prompts: Vec<Vec<u32>> = (0..4).map(|i| expected.ids("many.ids")[i * 7..][..150 + 260 * i].to_vec()).collect();
    let alone: Vec<_> = prompts
        .iter()
        .map(|prompt| {
            let mut session = session(&decoder);
            session.prefill_blocking(prompt).unwrap();
            go_on(&mut session, 16)
        })
        .collect();
    std::thread::scope(|scope| {
        for (prompt, alone) in prompts.iter().zip(&alone) {
            let small = small.clone();
            scope.spawn(move || {
                let mut session = session(&small);
                for chunk in prompt.chunks(90) {
                    session.prefill_blocking(chunk).unwrap();
                }
                assert_eq!(go_on(&mut session, 16), *alone);
            });
        }
    });
}

/// Pages go back to the pool: any number of sessions one after another needs no more memory than one.
#[test]
fn pages_are_given_back() {
    let gpu = Gpu::new_blocking(Default::default()).unwrap();
    let decoder = decoder(&gpu, "mistral_window", Dtype::Auto);
    let ids: Vec<u32> = (0..100).map(|i| i % 90).collect();
    let run = || {
        let mut first = session(&decoder);
        first.prefill_blocking(&ids).unwrap();
        let mut fork = first.fork();
        go_on(&mut first, 3);
        go_on(&mut fork, 3)
    };
    let text = run();
    let before = gpu.counts();
    for _ in 0..60 {
        assert_eq!(run(), text);
    }
    let after = gpu.counts();
    assert_eq!((after.buffers, after.bytes), (before.buffers, before.bytes));
}

#[test]
fn prefill_is_watched_and_cancelled() {
    let decoder = decoder(&GPU, "llama_gqa", Dtype::Auto);
    let ids = expected("llama_gqa").ids("many.ids");
    let mut whole = session(&decoder);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let progress: thalweg::Progress = Arc::new(move |done, total| log.lock().unwrap().push((done, total)));
    whole.set_task(Task { progress: Some(progress), ..Default::default() });
    whole.prefill_blocking(&ids).unwrap();
    let seen = seen.lock().unwrap().clone();
    assert!(seen.len() >= 3, "chunks of at most 512 tokens: {seen:?}");
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0), "{seen:?}");
    assert_eq!(seen.last(), Some(&(1499, 1499)));
    // cancelled after the first chunk, the session goes on where it stopped
    let cancel = CancelToken::new();
    let calls = Arc::new(AtomicU64::new(0));
    let (token, count) = (cancel.clone(), Arc::clone(&calls));
    let progress: thalweg::Progress = Arc::new(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        token.cancel();
    });
    let mut cut = session(&decoder);
    cut.set_task(Task { cancel, progress: Some(progress) });
    assert!(matches!(cut.prefill_blocking(&ids), Err(Error::Cancelled)));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert!(matches!(cut.next_token_blocking(), Err(Error::Cancelled)));
    assert_eq!(cut.tokens(), ids);
    cut.set_task(Task::default());
    assert_eq!(bits(&cut.logits_blocking().unwrap()), bits(&whole.logits_blocking().unwrap()));
    // a load is cancelled as well
    let task = Task::default();
    task.cancel.cancel();
    let options = LoadOptions { task, ..Default::default() };
    let load = pollster::block_on(Decoder::load_with(&GPU, fixtures("decoders/llama_gqa"), options));
    assert!(matches!(load, Err(Error::Cancelled)));
}

/// Futures that are dropped half way leave sessions that go on with the same tokens.
#[test]
fn a_dropped_step_loses_nothing() {
    use std::future::Future;
    use std::task::{Context, Waker};
    let decoder = decoder(&GPU, "gemma3_odd", Dtype::Auto);
    let ids = expected("gemma3_odd").ids("ids");
    let mut alone = session(&decoder);
    alone.prefill_blocking(&ids).unwrap();
    let text = go_on(&mut alone, 12);
    let mut session = session(&decoder);
    session.prefill_blocking(&ids).unwrap();
    let mut found = Vec::new();
    while found.len() < 12 {
        let mut step = Box::pin(session.next_token());
        let _ = step.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(step);
        // what was dropped before it was finished is done again
        while session.tokens().len() - ids.len() <= found.len() {
            session.next_token_blocking().unwrap();
        }
        found = session.tokens()[ids.len()..].to_vec();
    }
    assert_eq!(found[..12], text);
}

#[test]
fn draws_are_the_same_alone_and_beside_others() {
    let decoder = decoder(&GPU, "qwen2_bias", Dtype::Auto);
    let ids = expected("qwen2_bias").ids("ids");
    let sampling = Sampling { temperature: 1.3, top_k: 50, top_p: 0.9, min_p: 0.01, repeat_penalty: 1.1, seed: 5 };
    let start = |seed| {
        let sampling = Sampling { seed, ..sampling };
        let mut session = decoder.session(SessionOptions { sampling, ignore_eos: true, ..Default::default() }).unwrap();
        session.prefill_blocking(&ids).unwrap();
        session
    };
    let texts = [5, 6, 7].map(|seed| go_on(&mut start(seed), 20));
    assert_ne!(texts[0], texts[1]);
    let mut sessions = [5, 6, 7].map(start);
    for step in 0..20 {
        let [a, b, c] = &mut sessions;
        let chosen = decoder.step_blocking(&mut [a, b, c]).unwrap();
        assert_eq!(chosen, texts.each_ref().map(|text| Some(text[step])));
    }
    let wrong = Sampling { temperature: f32::NAN, ..sampling };
    assert!(matches!(sessions[0].set_sampling(wrong), Err(Error::Input(_))));
    assert!(decoder.session(SessionOptions { sampling: wrong, ..Default::default() }).is_err());
}

/// Files that are damaged, or belong to another model, are refused.
#[test]
fn saved_sessions_are_distrusted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.safetensors");
    let decoder = decoder(&GPU, "qwen3_norm", Dtype::Auto);
    let mut saved = session(&decoder);
    saved.prefill_blocking(&[1, 2, 3, 4, 5]).unwrap();
    saved.save_blocking(&path).unwrap();
    let load = |decoder: &Decoder| decoder.load_session_blocking(&path, SessionOptions::default());
    assert_eq!(load(&decoder).unwrap().tokens(), [1, 2, 3, 4, 5]);
    let other = common::decoder(&GPU, "qwen3_norm", Dtype::F32);
    assert!(matches!(load(&other), Err(Error::File { what, .. }) if what.contains("--dtype")));
    assert!(matches!(load(&common::decoder(&GPU, "gpt2_odd", Dtype::Auto)), Err(Error::File { .. })));
    let good = std::fs::read(&path).unwrap();
    // cut anywhere, and with any of its first bytes changed: an error or the same session, never anything else
    for length in (0..good.len()).step_by(97) {
        std::fs::write(&path, &good[..length]).unwrap();
        assert!(load(&decoder).is_err(), "cut to {length}");
    }
    for place in 0..300 {
        let mut bytes = good.clone();
        bytes[place] ^= 0x11;
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(session) = load(&decoder) {
            assert_eq!(session.tokens(), [1, 2, 3, 4, 5], "byte {place}");
        }
    }
    // one token, of which nothing is in the cache yet
    let mut short = session(&decoder);
    short.prefill_blocking(&[7]).unwrap();
    short.save_blocking(&path).unwrap();
    assert_eq!(load(&decoder).unwrap().next_token_blocking().unwrap(), short.next_token_blocking().unwrap());
    std::fs::write(&path, &good).unwrap();
    let session: Session = load(&decoder).unwrap();
    assert_eq!(session.tokens().len(), 5);
    assert!(matches!(
        decoder.load_session_blocking(folder.path().join("none"), SessionOptions::default()),
        Err(Error::Io { .. })
    ));
}

/// A cache or a model that cannot fit is refused with its numbers before anything is allocated.
#[test]
fn a_plan_that_cannot_fit_is_refused() {
    let gpu = Gpu::new_blocking(Default::default()).unwrap();
    let before = gpu.counts();
    let load = |options| pollster::block_on(Decoder::load_with(&gpu, fixtures("decoders/llama_gqa"), options));
    let error = load(LoadOptions { memory: Some(10_000), ..Default::default() }).unwrap_err();
    assert!(matches!(&error, Error::OutOfMemory(what) if what.contains("weights") && what.contains("MiB")), "{error}");
    assert_eq!(gpu.counts(), before);
    // a cache beyond one binding: dynamic scaling sets no limit of its own
    let options = LoadOptions { context: Some(16_000_000), memory: Some(u64::MAX), ..Default::default() };
    let error = pollster::block_on(Decoder::load_with(&gpu, fixtures("decoders/llama_dynamic"), options)).unwrap_err();
    assert!(matches!(&error, Error::OutOfMemory(what) if what.contains("16000000")), "{error}");
    assert_eq!(gpu.counts(), before);
    // what kernels are tried with on a driver that is new is not in the plan
    let plan =
        load(LoadOptions { context: Some(100), skip_self_check: true, ..Default::default() }).unwrap().plan().clone();
    let after = gpu.counts();
    let bytes = after.bytes - before.bytes;
    // what was planned is what was allocated, but for rounding and a spare page
    assert!(bytes <= plan.total() * 5 / 4 + 65536 && bytes >= plan.total() / 2, "{bytes} for {plan:?}");
}
