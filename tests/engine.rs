//! The engine's promises: what a forward costs after warm-up, which devices it runs on, and what happens when a device
//! or an allocation fails.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{GPU, bits, fixtures, load, minilm};
use thalweg::schedule::{Batch, Command, Slot};
use thalweg::stream::{Kind, Point};
use thalweg::{
    CancelToken, Dtype, EmbedOptions, Encoder, Error, Gpu, GpuOptions, LoadOptions, Model, Sampling, SessionOptions,
    Task,
};

const TEXTS: [&str; 3] = ["the river bends", "a much longer text than the first one, with more tokens in it", "x"];

/// Counters belong to a `Gpu`, so tests of them have one of their own.
fn own_gpu() -> Gpu {
    Gpu::new_blocking(GpuOptions::default()).unwrap()
}

#[test]
fn a_forward_allocates_nothing() {
    let gpu = own_gpu();
    let encoder = load(&gpu, fixtures("models/bert_odd"), Dtype::Auto).unwrap();
    let first = load(&GPU, fixtures("models/bert_odd"), Dtype::Auto).unwrap().embed_blocking(&TEXTS).unwrap();
    // the load has made everything: even the first forward allocates nothing, and none of a larger batch
    let many = TEXTS.repeat(30);
    for texts in [&TEXTS[..1], &TEXTS[..], &TEXTS[1..], &many] {
        let before = gpu.counts();
        let again = encoder.embed_blocking(texts).unwrap();
        let after = gpu.counts();
        assert_eq!(after.buffers, before.buffers, "buffers");
        assert_eq!(after.bytes, before.bytes, "bytes");
        assert_eq!(after.bind_groups, before.bind_groups, "bind groups");
        assert_eq!(after.pipelines, before.pipelines, "pipelines");
        assert_eq!(after.submissions, before.submissions + 1, "one submission");
        assert_eq!(after.readbacks, before.readbacks + 1, "one readback, at the end");
        let dispatches = encoder.program().recording().dispatches().count() as u64;
        assert_eq!(after.dispatches, before.dispatches + dispatches);
        // embed and its norm, 7 for each of 2 blocks, pooling and normalisation
        assert_eq!(dispatches, 2 + 7 * 2 + 2);
        assert!(again.iter().all(|v| first.contains(v)));
    }
}

#[test]
fn submissions_are_split_at_block_boundaries_only() {
    let texts = TEXTS;
    let whole = load(&GPU, fixtures("models/distilbert_odd"), Dtype::Auto).unwrap().embed_blocking(&texts).unwrap();
    let options = GpuOptions { submission_budget: Some(Duration::ZERO), ..Default::default() };
    let gpu = Gpu::new_blocking(options).unwrap();
    let encoder = load(&gpu, fixtures("models/distilbert_odd"), Dtype::Auto).unwrap();
    let split = encoder.embed_blocking(&texts).unwrap();
    assert_eq!(whole, split, "the split changes no bit");
    let boundaries = encoder.program().recording().commands.iter().filter(|c| **c == Command::Boundary).count();
    assert_eq!(boundaries, 1 + 3, "after the embedding and after each block");
    // without any budget every boundary splits: the embedding, three blocks, the head
    assert_eq!(gpu.counts().submissions, 5);
    assert_eq!(gpu.counts().readbacks, 1);
}

#[test]
fn one_buffer_holds_the_stream_from_embedding_to_pooling() {
    let encoder = load(&GPU, fixtures("models/roberta_odd"), Dtype::Auto).unwrap();
    let recording = encoder.program().recording();
    let reads_or_writes = |kernel: &str| {
        let of_kernel = recording.dispatches().filter(|d| d.variant.kernel == kernel);
        of_kernel.filter(|d| d.bindings.contains(&Slot::Stream)).count()
    };
    assert_eq!(reads_or_writes("embed"), 1);
    assert_eq!(reads_or_writes("layer_norm"), 1 + 2 * 2);
    assert_eq!(reads_or_writes("matmul"), 2 * 4, "QKV and the FFN read it, W_O and the FFN's end add into it");
    assert_eq!(reads_or_writes("pool"), 1);
    assert_eq!(reads_or_writes("attention"), 0);
}

/// A device as a host may have it: WebGPU's default limits and no feature at all.
fn default_device() -> (wgpu::Adapter, wgpu::Device, wgpu::Queue) {
    let adapter = pollster::block_on(thalweg::gpu::adapters(Some(wgpu::Backends::PRIMARY))).remove(0);
    let descriptor = wgpu::DeviceDescriptor { required_limits: wgpu::Limits::defaults(), ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    assert_eq!(device.features(), wgpu::Features::empty());
    (adapter, device, queue)
}

#[test]
fn a_device_with_default_limits_and_no_feature_runs_the_model() {
    let (adapter, device, queue) = default_device();
    let gpu = Gpu::from_host(&adapter, device, queue).unwrap();
    assert!(!gpu.capabilities().f16 && gpu.capabilities().subgroups.is_none() && !gpu.capabilities().timestamps);
    let texts = ["a cat sits on the mat", "the stock market fell"];
    let plain = load(&gpu, minilm(), Dtype::F16).unwrap().embed_blocking(&texts).unwrap();
    let usual = load(&GPU, minilm(), Dtype::F16).unwrap().embed_blocking(&texts).unwrap();
    for (a, b) in plain.iter().zip(&usual) {
        assert!(common::relative(a, b) < 1e-5);
    }
}

#[test]
fn required_asks_for_nothing_that_the_adapter_lacks() {
    let adapter = default_device().0;
    let (required_features, required_limits) = Gpu::required(&adapter);
    let descriptor = wgpu::DeviceDescriptor { required_features, required_limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    let gpu = Gpu::from_host(&adapter, device, queue).unwrap();
    assert_eq!(gpu.capabilities().f16, GPU.capabilities().f16);
    load(&gpu, fixtures("models/bert_odd"), Dtype::Auto).unwrap().embed_blocking(&TEXTS).unwrap();
}

#[test]
fn a_lost_device_is_an_error_from_this_and_every_later_call() {
    for own in [true, false] {
        let gpu = if own {
            own_gpu()
        } else {
            let (adapter, device, queue) = default_device();
            Gpu::from_host(&adapter, device, queue).unwrap()
        };
        let encoder = load(&gpu, fixtures("models/bert_odd"), Dtype::Auto).unwrap();
        encoder.embed_blocking(&TEXTS).unwrap();
        gpu.device().destroy();
        for _ in 0..3 {
            let error = encoder.embed_blocking(&TEXTS).unwrap_err();
            assert!(matches!(error, Error::DeviceLost(_)), "own: {own}: {error:?}");
            assert_eq!(error.exit_code(), 5);
        }
        assert!(matches!(load(&gpu, fixtures("models/bert_odd"), Dtype::Auto), Err(Error::DeviceLost(_))));
    }
    // the process goes on with another device
    load(&GPU, fixtures("models/bert_odd"), Dtype::Auto).unwrap().embed_blocking(&TEXTS).unwrap();
}

#[test]
fn a_device_lost_while_it_works_fails_that_forward() {
    let gpu = own_gpu();
    let encoder = load(&gpu, minilm(), Dtype::Auto).unwrap();
    let texts = vec!["word ".repeat(200); 8];
    std::thread::scope(|scope| {
        let forward = scope.spawn(|| encoder.embed_blocking(&texts));
        while gpu.counts().submissions == 0 {
            std::thread::yield_now();
        }
        gpu.device().destroy();
        match forward.join().unwrap() {
            Err(Error::DeviceLost(_)) => {}
            // what had been submitted may still have finished
            Ok(vectors) => assert_eq!(vectors.len(), 8),
            Err(other) => panic!("{other:?}"),
        }
    });
    assert!(matches!(encoder.embed_blocking(&texts), Err(Error::DeviceLost(_))));
}

#[test]
fn models_and_sessions_go_on_after_the_device_was_lost() {
    let gpu = own_gpu();
    let encoder = load(&gpu, fixtures("models/bert_odd"), Dtype::Auto).unwrap();
    let decoder = common::decoder(&gpu, "llama_gqa", Dtype::Auto);
    let model = Model::load_blocking(&gpu, fixtures("gguf/models/llama_256_q4_k.gguf"), Default::default()).unwrap();
    let points = [Point::new(0, Kind::Logits)];
    let (vectors, trace) =
        (encoder.embed_blocking(&TEXTS).unwrap(), model.trace_blocking(&[1, 2, 3], &points).unwrap());
    // a draw depends on the position alone, so that a session which goes on draws what it would have drawn
    let sampling = Sampling { temperature: 0.8, seed: 7, ..Default::default() };
    let options = SessionOptions { sampling, ignore_eos: true, ..Default::default() };
    let prompt: Vec<u32> = (3..90).collect();
    let mut session = decoder.session(options).unwrap();
    session.prefill_blocking(&prompt).unwrap();
    let mut whole = session.fork();
    let expected = common::go_on(&mut whole, 20);
    let mut tokens = common::go_on(&mut session, 8);

    gpu.device().destroy();
    let error = session.next_token_blocking().unwrap_err();
    assert!(matches!(error, Error::DeviceLost(_)), "{error:?}");
    assert_eq!(session.tokens().len(), prompt.len() + 8, "a step that fails chooses nothing");

    let gpu = gpu.rebuild_blocking().unwrap();
    assert_eq!(encoder.rebuild_blocking(&gpu).unwrap().embed_blocking(&TEXTS).unwrap(), vectors);
    let again = model.rebuild_blocking(&gpu).unwrap().trace_blocking(&[1, 2, 3], &points).unwrap();
    assert_eq!(again.tensors, trace.tensors);
    let decoder = decoder.rebuild_blocking(&gpu).unwrap();
    let mut session = session.rebuild(&decoder).unwrap();
    tokens.extend(common::go_on(&mut session, 12));
    assert_eq!(tokens, expected);

    let other = common::decoder(&gpu, "llama_mha", Dtype::Auto);
    assert!(matches!(session.rebuild(&other), Err(Error::Input(_))));
    let (adapter, device, queue) = default_device();
    let hosts = Gpu::from_host(&adapter, device, queue).unwrap();
    assert!(matches!(hosts.rebuild_blocking(), Err(Error::Input(_))));
}

#[test]
fn files_that_changed_are_not_taken_for_the_model_that_was_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let copy = |name: &str| std::fs::copy(fixtures(&format!("gguf/models/{name}.gguf")), &path).unwrap();
    copy("llama_mha");
    let gpu = own_gpu();
    let model = Model::load_blocking(&gpu, &path, Default::default()).unwrap();
    gpu.device().destroy();
    let gpu = gpu.rebuild_blocking().unwrap();
    model.rebuild_blocking(&gpu).unwrap();
    copy("llama_mqa_bias");
    let error = model.rebuild_blocking(&gpu).map(drop).unwrap_err();
    assert!(matches!(error, Error::File { .. }) && error.to_string().contains("changed"), "{error}");
}

#[test]
fn an_allocation_beyond_the_limits_is_an_error_with_the_numbers() {
    // a pattern of 100 heads over 180 tokens each fits; a host with the smallest limits refuses a batch that does not
    let (adapter, device, queue) = default_device();
    let gpu = Gpu::from_host(&adapter, device, queue).unwrap();
    let encoder = load(&gpu, minilm(), Dtype::F16).unwrap();
    // 128 MiB of bindings / (4 · 1536) bytes: more tokens than this cannot be in one batch, however it is asked for
    let most = encoder.program().max_tokens();
    assert_eq!(most, (128 << 20) / (4 * 1536));
    let mut batch = Batch::of(encoder.program().recording());
    batch.push((0..most as u32 + 1).map(|i| (i % 100, i % 512, 0)), 0);
    let error = pollster::block_on(encoder.program().run(&batch)).unwrap_err();
    assert!(matches!(&error, Error::OutOfMemory(what) if what.contains("134217728")), "{error:?}");
    assert_eq!(error.exit_code(), 5);
    encoder.embed_blocking(&TEXTS).unwrap();
}

#[test]
fn a_host_keeps_its_callbacks() {
    let (adapter, device, queue) = default_device();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let errors = Arc::clone(&seen);
    device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| errors.lock().unwrap().push(e.to_string())));
    let lost = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&lost);
    device.set_device_lost_callback(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let gpu = Gpu::from_host(&adapter, device.clone(), queue).unwrap();
    let encoder = load(&gpu, fixtures("models/bert_odd"), Dtype::Auto).unwrap();
    encoder.embed_blocking(&TEXTS).unwrap();
    assert!(seen.lock().unwrap().is_empty());
    // the host's own mistake still reaches the host
    let _ = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: u64::MAX,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    assert_eq!(seen.lock().unwrap().len(), 1);
    device.destroy();
    let _ = encoder.embed_blocking(&TEXTS).unwrap_err();
    assert_eq!(lost.load(Ordering::SeqCst), 1);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn threads_share_a_gpu_and_two_models() {
    let models = ["models/bert_odd", "models/distilbert_odd"].map(|m| load(&GPU, fixtures(m), Dtype::Auto).unwrap());
    let expected = models.each_ref().map(|m| m.embed_blocking(&TEXTS).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (models, expected) = (&models, &expected);
            scope.spawn(move || {
                for round in 0..10 {
                    let which = (thread + round) % 2;
                    assert_eq!(models[which].embed_blocking(&TEXTS).unwrap(), expected[which]);
                }
            });
        }
    });
}

#[test]
fn a_dropped_future_leaves_the_model_usable() {
    let encoder = load(&GPU, minilm(), Dtype::Auto).unwrap();
    let expected = encoder.embed_blocking(&TEXTS).unwrap();
    let mut pending = 0;
    for round in 0..60 {
        let future = std::pin::pin!(encoder.embed(&["a text whose vector nobody waits for"]));
        let waker = std::task::Waker::noop();
        pending += u32::from(future.poll(&mut std::task::Context::from_waker(waker)).is_pending());
        // dropped at every moment of its way: before, while and after the result is mapped
        std::thread::sleep(Duration::from_micros(300 * round));
    }
    assert!(pending > 0, "every future was done at once");
    let again = encoder.embed_blocking(&TEXTS).unwrap();
    assert!(again.iter().zip(&expected).all(|(a, b)| bits(a) == bits(b)));
}

#[test]
fn loads_and_embeddings_are_watched_and_cancelled() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let progress = Arc::new(move |done, total| log.lock().unwrap().push((done, total)));
    let task = Task { cancel: CancelToken::new(), progress: Some(progress) };
    let options = LoadOptions { task: task.clone(), ..Default::default() };
    let folder = fixtures("models/bert_odd");
    let encoder = pollster::block_on(Encoder::load_with(&GPU, &folder, options.clone())).unwrap();
    let loaded: Vec<_> = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(loaded.last(), Some(&(encoder.weight_bytes(), encoder.weight_bytes())));
    assert!(loaded.is_sorted());
    let embed = EmbedOptions { batch_tokens: 1, task: task.clone(), ..Default::default() };
    pollster::block_on(encoder.embed_with(&TEXTS, &embed)).unwrap();
    assert_eq!(*seen.lock().unwrap(), [(1, 3), (2, 3), (3, 3)]);
    task.cancel.cancel();
    assert!(matches!(pollster::block_on(encoder.embed_with(&TEXTS, &embed)), Err(Error::Cancelled)));
    assert!(matches!(pollster::block_on(Encoder::load_with(&GPU, &folder, options)), Err(Error::Cancelled)));
    encoder.embed_blocking(&TEXTS).unwrap();
}

#[test]
fn handles_cross_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Gpu>();
    shared::<Encoder>();
    fn sent<T: Send>(_: T) {}
    let encoder = load(&GPU, fixtures("models/bert_odd"), Dtype::Auto).unwrap();
    sent(encoder.embed(&TEXTS));
    sent(Gpu::new(GpuOptions::default()));
}

/// Kernels check no index, so that a batch which its model cannot serve must not reach them.
#[test]
fn batches_for_other_models_are_refused() {
    let encoder = load(&GPU, fixtures("models/bert_odd"), Dtype::Auto).unwrap();
    let (program, spec) = (encoder.program(), encoder.spec());
    let tile = program.recording().tile;
    let (ids, positions) = (spec.vocab_size as u32, spec.max_position_embeddings as u32);
    let run = |tile, token| {
        let mut batch = Batch::new(tile);
        batch.push([token], 0);
        pollster::block_on(program.run(&batch))
    };
    run(tile, (ids - 1, positions - 1, 1)).unwrap();
    for (tile, token) in [
        (tile, (ids, 0, 0)),
        (tile, (u32::MAX, 0, 0)),
        (tile, (0, positions, 0)),
        (tile, (0, 0, 2)),
        (2 * tile, (0, 0, 0)),
    ] {
        assert!(matches!(run(tile, token), Err(Error::Input(_))), "{token:?}");
    }
    assert!(matches!(pollster::block_on(program.run(&Batch::new(tile))), Err(Error::Input(_))));
}

/// The experimental feature is asked for where the adapter has matrices that products use, never of a host, and not where
/// the options say no. What they make of f16 weights is near what is made without them, and the same in any batch.
#[test]
fn cooperative_matrices_are_a_choice() {
    use thalweg::kernels::matmul::Form;
    use thalweg::schedule::Choices;
    let open = |may| {
        Gpu::new_blocking(GpuOptions { cooperative_matrices: Some(may), ..Default::default() }).expect("an adapter")
    };
    let (with, without) = (open(true), open(false));
    let cooperating = |gpu: &Gpu| Form::on(gpu.capabilities()).filter(|form| form.cooperates()).collect::<Vec<_>>();
    assert!(without.capabilities().cooperative_matrices.is_empty());
    assert_eq!(cooperating(&without), []);
    assert!(!Choices::of(without.capabilities()).matmul.cooperates());
    let feature = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    assert_eq!(with.device().features().contains(feature), !cooperating(&with).is_empty());
    let adapter = pollster::block_on(thalweg::gpu::adapters(None)).remove(0);
    assert!(!Gpu::required(&adapter).0.contains(feature));
    let vectors = |gpu: &Gpu, choices: Choices, texts: &[&str]| {
        let options = LoadOptions { choices: Some(choices), dtype: Dtype::F16, ..Default::default() };
        let encoder = pollster::block_on(Encoder::load_with(gpu, minilm(), options)).unwrap();
        let mut labels = encoder.program().recording().dispatches().map(|dispatch| &dispatch.variant.label);
        assert_eq!(labels.any(|label| label.starts_with("matmul[cooperative")), choices.matmul.cooperates());
        encoder.embed_blocking(texts).unwrap()
    };
    let plain = vectors(&without, Choices::of(without.capabilities()), &TEXTS);
    for matmul in cooperating(&with) {
        let choices = Choices { matmul, ..Choices::of(with.capabilities()) };
        let found = vectors(&with, choices, &TEXTS);
        let off = found.iter().flatten().zip(plain.iter().flatten()).map(|(a, b)| (a - b).abs());
        let off = off.fold(0f32, f32::max);
        assert!(off > 0.0 && off < 2e-3, "{matmul:?}: {off}");
        assert_eq!(bits(&vectors(&with, choices, &TEXTS[..1])[0]), bits(&found[0]));
    }
}
