//! How much memory buffers may take on an adapter, where the system says so.

use super::AdapterClass;

/// Bytes; `None` where nobody says (Metal, DX12, OpenGL).
pub(super) fn available(adapter: &wgpu::Adapter, class: AdapterClass) -> Option<u64> {
    match class {
        AdapterClass::Cpu | AdapterClass::Integrated => host(),
        AdapterClass::Discrete => vulkan_heap(adapter),
    }
}

/// What the host can still give, which is where these adapters' buffers live.
pub(crate) fn host() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The largest heap of the device's own memory.
#[cfg(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd"))]
#[expect(unsafe_code, reason = "wgpu does not tell the size of a GPU's memory, its raw handles do")]
fn vulkan_heap(adapter: &wgpu::Adapter) -> Option<u64> {
    // SAFETY: the raw handles are only asked for their properties, while `adapter` keeps both alive; nothing of what wgpu
    // owns is changed or destroyed.
    unsafe {
        let adapter = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = adapter.shared_instance().raw_instance();
        let memory = instance.get_physical_device_memory_properties(adapter.raw_physical_device());
        let heaps = memory.memory_heaps.get(..memory.memory_heap_count as usize)?;
        // VK_MEMORY_HEAP_DEVICE_LOCAL_BIT
        heaps.iter().filter(|heap| heap.flags.as_raw() & 1 != 0).map(|heap| heap.size).max()
    }
}

#[cfg(not(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn vulkan_heap(_: &wgpu::Adapter) -> Option<u64> {
    None
}
