//! Products by burn on Vulkan.

use std::collections::HashMap;

use anyhow::{Result, anyhow, bail};
use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use peers_common::{Answer, Factors, Request, each, serve};

fn main() -> Result<()> {
    let device = Device::vulkan(DeviceKind::DefaultDevice);
    let mut known: HashMap<[usize; 3], (Tensor<2>, Tensor<2>)> = HashMap::new();
    serve(&format!("burn 0.22.1, {device:?}"), |request| {
        let Request::Product { m, n, k, times } = request else { bail!("only products") };
        let mut answer = Answer::default();
        if !known.contains_key(&[m, n, k]) {
            let factors = Factors::new(m, n, k);
            let matrix = |values: &[f32], rows: usize, columns: usize| {
                Tensor::<2>::from_data(TensorData::new(values.to_vec(), [rows, columns]), &device)
            };
            let pair = (matrix(&factors.left, m, k), matrix(&factors.right, k, n));
            // the first ones find the fastest kernel
            for _ in 0..3 {
                let data = pair.0.clone().matmul(pair.1.clone()).into_data();
                let out = data.to_vec::<f32>().map_err(|error| anyhow!("{error:?}"))?;
                answer.error = Some(factors.error(&out)?);
            }
            known.insert([m, n, k], pair);
        }
        let (left, right) = &known[&[m, n, k]];
        answer.seconds = each(times, || {
            // each is dropped at once, so that the next finds its buffer
            for _ in 0..times {
                drop(left.clone().matmul(right.clone()));
            }
            device.sync().map_err(|error| anyhow!("{error:?}"))
        })?;
        Ok(answer)
    })
}
