// Rows are read and written 4 elements at a time: every row starts at a multiple of 4.

alias Element = vec4<f32>;
const WIDTH = 4u;

fn across(e: Element) -> f32 {
    return (e.x + e.y) + (e.z + e.w);
}
