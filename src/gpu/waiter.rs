//! One thread per `Gpu` that polls the device, so that futures complete without a runtime and no caller has to poll.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};

use futures_channel::oneshot;

use super::Gpu;
use crate::error::{Error, Result};

/// What the thread is asked: wait for a submission, then say how that went.
struct Job {
    submission: wgpu::SubmissionIndex,
    done: oneshot::Sender<Result<(), String>>,
}

/// The sending end; the thread ends when the last `Gpu` drops it.
pub(super) struct Waiter {
    jobs: Sender<Job>,
}

impl Waiter {
    pub(super) fn start(device: wgpu::Device, lost: Arc<OnceLock<String>>) -> Result<Self> {
        let (jobs, queue) = channel();
        std::thread::Builder::new()
            .name("thalweg-waiter".into())
            .spawn(move || wait_for_jobs(&device, &queue, &lost))
            .map_err(|e| Error::Internal { during: "start of the waiter thread".into(), message: e.to_string() })?;
        Ok(Waiter { jobs })
    }
}

fn wait_for_jobs(device: &wgpu::Device, jobs: &Receiver<Job>, lost: &OnceLock<String>) {
    while let Ok(Job { submission, done }) = jobs.recv() {
        let outcome = poll(device, wgpu::PollType::Wait { submission_index: Some(submission), timeout: None });
        if let Err(why) = &outcome {
            // Waiting fails only for a submission that never ran or a device that is gone. A plain poll runs the
            // callbacks that are due now, a device-lost callback among them.
            let _ = poll(device, wgpu::PollType::Poll);
            let _ = lost.set(why.clone());
        }
        let _ = done.send(outcome);
    }
}

/// wgpu panics in `poll` where the wait itself fails, which is how some drivers show a lost device; a host's callbacks run
/// in here too, and a panic of theirs must not end the thread.
fn poll(device: &wgpu::Device, how: wgpu::PollType) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(|| device.poll(how))) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the driver failed while waiting for the GPU".to_string()),
    }
}

impl Gpu {
    /// Completes when the GPU has finished a submission and its callbacks have run.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] where the submission was dropped because the device is gone.
    pub(crate) fn finished(
        &self,
        submission: wgpu::SubmissionIndex,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let (done, outcome) = oneshot::channel();
        let sent = self.0.waiter.jobs.send(Job { submission, done });
        let gpu = self.clone();
        async move {
            let gone = |why: String| Error::DeviceLost(gpu.0.lost.get().cloned().unwrap_or(why));
            sent.map_err(|_| gone("the waiter thread has ended".into()))?;
            outcome.await.map_err(|_| gone("the waiter thread has ended".into()))?.map_err(gone)
        }
    }
}
