// Queries, keys and values whose heads may have any size and start anywhere.

@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read> k: array<f32>;
@group(0) @binding(4) var<storage, read> v: array<f32>;

// Elements 4·quad to 4·quad + 3 of the head that begins at `first`, 0 beyond its end.
fn q4(first: u32, quad: u32) -> vec4<f32> {
    let d = quad * 4u;
    let last = params.head_size - 1u;
    return vec4<f32>(
        q[first + d],
        select(0.0, q[first + min(d + 1u, last)], d + 1u <= last),
        select(0.0, q[first + min(d + 2u, last)], d + 2u <= last),
        select(0.0, q[first + min(d + 3u, last)], d + 3u <= last),
    );
}

fn k4(first: u32, quad: u32) -> vec4<f32> {
    let d = quad * 4u;
    let last = params.head_size - 1u;
    return vec4<f32>(
        k[first + d],
        select(0.0, k[first + min(d + 1u, last)], d + 1u <= last),
        select(0.0, k[first + min(d + 2u, last)], d + 2u <= last),
        select(0.0, k[first + min(d + 3u, last)], d + 3u <= last),
    );
}

fn v4(first: u32, quad: u32) -> vec4<f32> {
    let d = quad * 4u;
    let last = params.head_size - 1u;
    return vec4<f32>(
        v[first + d],
        select(0.0, v[first + min(d + 1u, last)], d + 1u <= last),
        select(0.0, v[first + min(d + 2u, last)], d + 2u <= last),
        select(0.0, v[first + min(d + 3u, last)], d + 3u <= last),
    );
}
