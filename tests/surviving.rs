//! An engine inside of a program that must not die: callbacks that call back, a host that uses the GPU at the same time,
//! sessions that go away while the GPU works, and stops at every stage.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::{Expected, GPU, bits, decoder, fixtures, go_on, load, session};
use thalweg::{CancelToken, Dtype, EmbedOptions, Encoder, Error, Gpu, LoadOptions, Progress, SessionOptions, Task};

const TEXTS: [&str; 3] = ["the river bends", "a much longer text than the first one, with more tokens in it", "x"];

fn watched(progress: impl Fn(u64, u64) + Send + Sync + 'static) -> Task {
    let progress: Progress = Arc::new(progress);
    Task { progress: Some(progress), ..Default::default() }
}

#[test]
fn progress_callbacks_may_call_the_engine() {
    let encoder = Arc::new(load(&GPU, fixtures("models/bert_odd"), Dtype::Auto).unwrap());
    let expected = encoder.embed_blocking(&TEXTS).unwrap();
    let decoder = decoder(&GPU, "llama_gqa", Dtype::Auto);
    let ids = Expected::open("decoders/llama_gqa").ids("ids");
    let mut first = session(&decoder);
    first.prefill_blocking(&ids).unwrap();
    let text = go_on(&mut first.fork(), 3);

    // whatever is being watched, the callback embeds, loads, and steps a session of the same decoder
    let calls = Arc::new(AtomicU64::new(0));
    let task = {
        let (encoder, expected, calls) = (Arc::clone(&encoder), expected.clone(), Arc::clone(&calls));
        let (shared, text) = (Mutex::new(first), text.clone());
        watched(move |_, _| {
            calls.fetch_add(1, Ordering::Relaxed);
            assert_eq!(encoder.embed_blocking(&TEXTS).unwrap(), expected);
            assert_eq!(go_on(&mut shared.lock().unwrap().fork(), 3), text);
            let again = load(&GPU, fixtures("models/distilbert_odd"), Dtype::Auto).unwrap();
            again.embed_blocking(&TEXTS[..1]).unwrap();
        })
    };
    let embed = EmbedOptions { batch_tokens: 1, task: task.clone(), ..Default::default() };
    let embeddings = pollster::block_on(encoder.embed_with(&TEXTS, &embed)).unwrap();
    assert_eq!(embeddings.into_iter().map(|e| e.vector).collect::<Vec<_>>(), expected);
    let embedded = calls.load(Ordering::Relaxed);
    let options = LoadOptions { task: task.clone(), ..Default::default() };
    pollster::block_on(Encoder::load_with(&GPU, fixtures("models/bert_odd"), options)).unwrap();
    let loaded = calls.load(Ordering::Relaxed);
    let mut long = decoder.session(SessionOptions { task, ..Default::default() }).unwrap();
    long.prefill_blocking(&ids).unwrap();
    let prefilled = calls.load(Ordering::Relaxed);
    assert!(0 < embedded && embedded < loaded && loaded < prefilled, "{embedded}, {loaded}, {prefilled}");
}

/// The host's own work: it adds 1 to every element of a buffer, in a compute pass of its own.
struct Host {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    buffer: wgpu::Buffer,
}

const ELEMENTS: u64 = 4096;

impl Host {
    fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        let source = "@group(0) @binding(0) var<storage, read_write> data: array<u32>;
            @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) { data[id.x] += 1u; }";
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        });
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let descriptor = wgpu::BufferDescriptor { label: None, size: 4 * ELEMENTS, usage, mapped_at_creation: false };
        let buffer = device.create_buffer(&descriptor);
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }],
        });
        Host { device: device.clone(), queue: queue.clone(), pipeline, group, buffer }
    }

    fn frame(&self) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(ELEMENTS as u32 / 64, 1, 1);
        drop(pass);
        self.queue.submit([encoder.finish()]);
    }

    fn read(&self) -> Vec<u32> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size: 4 * ELEMENTS, usage, mapped_at_creation: false };
        let staging = self.device.create_buffer(&descriptor);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&self.buffer, 0, &staging, 0, 4 * ELEMENTS);
        self.queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., |outcome| outcome.unwrap());
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let bytes = staging.get_mapped_range(..).unwrap();
        bytemuck::pod_collect_to_vec(&bytes)
    }
}

#[test]
fn a_host_submits_its_own_work_at_the_same_time() {
    let adapter = pollster::block_on(thalweg::gpu::adapters(Some(wgpu::Backends::PRIMARY))).remove(0);
    let descriptor = wgpu::DeviceDescriptor { required_limits: wgpu::Limits::defaults(), ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    let host = Host::new(&device, &queue);
    let gpu = Gpu::from_host(&adapter, device, queue).unwrap();
    let encoder = load(&gpu, fixtures("models/bert_odd"), Dtype::Auto).unwrap();
    let decoder = decoder(&gpu, "llama_gqa", Dtype::Auto);
    let ids = Expected::open("decoders/llama_gqa").ids("ids");
    let write = || {
        let mut session = session(&decoder);
        session.prefill_blocking(&ids).unwrap();
        go_on(&mut session, 16)
    };
    let (vectors, text) = (encoder.embed_blocking(&TEXTS).unwrap(), write());

    let (done, mut frames) = (AtomicBool::new(false), 0u32);
    std::thread::scope(|scope| {
        let (done, host) = (&done, &host);
        let drawing = scope.spawn(move || {
            let mut frames = 0;
            while !done.load(Ordering::Relaxed) || frames < 50 {
                host.frame();
                frames += 1;
                std::thread::yield_now();
            }
            frames
        });
        for _ in 0..4 {
            assert_eq!(encoder.embed_blocking(&TEXTS).unwrap(), vectors);
            assert_eq!(write(), text);
        }
        done.store(true, Ordering::Relaxed);
        frames += drawing.join().unwrap();
    });
    assert_eq!(host.read(), vec![frames; ELEMENTS as usize]);
}

#[test]
fn sessions_go_away_while_the_gpu_works() {
    use std::future::Future;
    use std::task::{Context, Waker};
    let decoder = decoder(&GPU, "llama_gqa", Dtype::Auto);
    let ids = Expected::open("decoders/llama_gqa").ids("many.ids");
    let mut kept = session(&decoder);
    kept.prefill_blocking(&ids[..300]).unwrap();
    let expected = bits(&kept.logits_blocking().unwrap());
    for round in 0..8 {
        let mut gone = if round % 2 == 0 { kept.fork() } else { session(&decoder) };
        let mut prefill = Box::pin(gone.prefill(&ids[300..]));
        // submitted, and not waited for: its pages go back to the pool while the GPU writes into them
        let _ = prefill.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(prefill);
        drop(gone);
        // who gets the pages next is not disturbed
        let mut next = session(&decoder);
        next.prefill_blocking(&ids[..300]).unwrap();
        assert_eq!(bits(&next.logits_blocking().unwrap()), expected, "round {round}");
        assert_eq!(bits(&kept.logits_blocking().unwrap()), expected, "round {round}");
    }
}

#[test]
fn what_is_stopped_anywhere_goes_on() {
    let decoder = decoder(&GPU, "gemma3_odd", Dtype::Auto);
    let ids = Expected::open("decoders/gemma3_odd").ids("ids");
    let mut whole = session(&decoder);
    whole.prefill_blocking(&ids).unwrap();
    let text = go_on(&mut whole, 10);
    let mut stopped = session(&decoder);
    let cancelled = || {
        let task = Task::default();
        task.cancel.cancel();
        task
    };
    stopped.set_task(cancelled());
    assert!(matches!(stopped.prefill_blocking(&ids), Err(Error::Cancelled)));
    for token in text {
        stopped.set_task(cancelled());
        assert!(matches!(stopped.next_token_blocking(), Err(Error::Cancelled)));
        assert!(matches!(decoder.step_blocking(&mut [&mut stopped]), Err(Error::Cancelled)));
        stopped.set_task(Task::default());
        assert_eq!(stopped.next_token_blocking().unwrap(), Some(token));
    }

    // an encoder between two batches, from its own callback
    let encoder = load(&GPU, fixtures("models/bert_odd"), Dtype::Auto).unwrap();
    let expected = encoder.embed_blocking(&TEXTS).unwrap();
    for stop_at in 1..TEXTS.len() as u64 {
        let cancel = CancelToken::new();
        let token = cancel.clone();
        let watch = watched(move |done, _| {
            if done == stop_at {
                token.cancel()
            }
        });
        let task = Task { cancel, ..watch };
        let options = EmbedOptions { batch_tokens: 1, task, ..Default::default() };
        assert!(matches!(pollster::block_on(encoder.embed_with(&TEXTS, &options)), Err(Error::Cancelled)));
        assert_eq!(encoder.embed_blocking(&TEXTS).unwrap(), expected);
    }

    // a load, from each of its first reports
    for stop_at in 0..12 {
        let cancel = CancelToken::new();
        let (token, reports) = (cancel.clone(), AtomicU64::new(0));
        let watch = watched(move |_, _| {
            if reports.fetch_add(1, Ordering::Relaxed) == stop_at {
                token.cancel()
            }
        });
        let options = LoadOptions { task: Task { cancel, ..watch }, ..Default::default() };
        let loaded = pollster::block_on(Encoder::load_with(&GPU, fixtures("models/bert_odd"), options));
        assert!(matches!(loaded, Err(Error::Cancelled)), "report {stop_at}");
    }
}
