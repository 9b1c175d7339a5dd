use linux_loader::loader::bootparam::boot_params;
use memory::{Bytes, GuestAddress};

use super::*;
use crate::testing::{bzimage, elf, file_of, patch, pvh_note, ram_of};

const DISK: Node = Node::VirtioMmio { base: 0xc000_0000, len: 0x1000, gsi: 16 };

fn boot(mib: u64, payload: &Payload) -> Result<(GuestMemory, CpuImage), BootError> {
    let (layout, memory) = ram_of(mib << 20);
    let topology = Topology::flat(2).unwrap();
    let platform = Platform { layout: &layout, topology: &topology, nodes: &[DISK] };
    let image = load(&memory, &platform, payload)?;
    Ok((memory, image))
}

fn payload(kernel: &[u8]) -> Payload {
    Payload { cmdline: "console=ttyS0".into(), ..Payload::new(file_of(kernel)) }
}

fn bytes<const N: usize>(memory: &GuestMemory, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
    bytes
}

#[test]
fn a_bzimage_starts_in_long_mode_with_its_code_at_1_mib() {
    let (memory, image) = boot(16, &payload(&bzimage())).unwrap();
    assert_eq!((image.rip, image.rsi), (0x10_0200, 0x7000));
    assert_eq!(image.efer & 0x500, 0x500);
    assert_eq!(bytes(&memory, 0x10_0000), [0x90; 4]);
    assert_eq!(bytes(&memory, 0x10_03fc), [0x90, 0x90, 0x90, 0x90, 0, 0, 0, 0]);
}

#[test]
fn the_descriptor_table_has_the_segments_of_the_image() {
    let (memory, image) = boot(16, &payload(&bzimage())).unwrap();
    let at = |selector: u16| image.gdt.base + u64::from(selector);
    let code = u64::from_le_bytes(bytes(&memory, at(image.cs.selector)));
    let data = u64::from_le_bytes(bytes(&memory, at(image.ds.selector)));
    assert_eq!(code >> 40 & 0xf0ff, u64::from(image.cs.access));
    assert_eq!(data >> 40 & 0xf0ff, u64::from(image.ds.access));
    assert!(u64::from(image.gdt.limit) >= u64::from(image.tr.selector) + 15);
}

#[test]
fn boot_params_have_the_kernel_s_header_the_command_line_and_the_memory_map() {
    let (memory, image) = boot(16, &payload(&bzimage())).unwrap();
    let params: boot_params = memory.read_obj(GuestAddress(image.rsi)).unwrap();
    let (version, alignment) = (params.hdr.version, params.hdr.kernel_alignment);
    assert_eq!((version, alignment), (0x20f, 0x20_0000));
    assert_eq!(params.hdr.type_of_loader, 0xff);
    let (cmdline, rsdp) = (params.hdr.cmd_line_ptr, params.acpi_rsdp_addr);
    assert_eq!(&bytes::<14>(&memory, cmdline.into()), b"console=ttyS0\0");
    assert_eq!(&bytes::<8>(&memory, rsdp), b"RSD PTR ");
    let ram = params.e820_table[2];
    let (start, size, kind) = (ram.addr, ram.size, ram.r#type);
    assert_eq!((params.e820_entries, start, size, kind), (4, 0x10_0000, 15 << 20, 1));
}

#[test]
fn the_initrd_is_as_high_as_it_can_be_on_a_page() {
    let mut payload = payload(&bzimage());
    payload.initrd = Some(file_of(&[0x77; 0x1001]));
    let (memory, image) = boot(16, &payload).unwrap();
    let params: boot_params = memory.read_obj(GuestAddress(image.rsi)).unwrap();
    let (address, size) = (params.hdr.ramdisk_image, params.hdr.ramdisk_size);
    assert_eq!((address, size), (0xff_e000, 0x1001));
    assert_eq!(bytes(&memory, 0xff_f000), [0x77, 0, 0, 0]);
}

#[test]
fn the_initrd_is_where_the_kernel_can_reach_it() {
    let mut kernel = bzimage();
    patch(&mut kernel, 0x22c, &0x7f_ffff_u32.to_le_bytes());
    let mut payload = payload(&kernel);
    payload.initrd = Some(file_of(&[0x77; 0x1000]));
    let (memory, image) = boot(16, &payload).unwrap();
    let params: boot_params = memory.read_obj(GuestAddress(image.rsi)).unwrap();
    let address = params.hdr.ramdisk_image;
    assert_eq!(address, 0x7f_f000);
}

#[test]
fn an_initrd_that_does_not_fit_is_refused_with_both_lengths() {
    let mut payload = payload(&bzimage());
    payload.initrd = Some(file_of(&vec![0; (2 << 20) - 0xffff]));
    let error = boot(4, &payload).unwrap_err().to_string();
    assert!(error.contains("initrd of 2031617 bytes does not fit"), "{error}");
    assert!(error.contains("kernel's end at 0x210000 and 0x400000 there are 2031616"), "{error}");
}

#[test]
fn an_empty_initrd_is_refused() {
    let mut payload = payload(&bzimage());
    payload.initrd = Some(file_of(&[]));
    assert_eq!(boot(4, &payload).unwrap_err().to_string(), "initrd is empty");
}

#[test]
fn a_command_line_that_does_not_fit_is_refused_with_both_lengths() {
    let mut payload = payload(&bzimage());
    payload.cmdline = "x".repeat(255);
    assert!(boot(16, &payload).is_ok());
    payload.cmdline = "x".repeat(256);
    let error = boot(16, &payload).unwrap_err().to_string();
    assert!(error.contains("has 256 bytes") && error.contains("takes at most 255"), "{error}");
}

#[test]
fn an_elf_is_copied_by_segments() {
    let (memory, image) = boot(16, &payload(&elf(&[]))).unwrap();
    assert_eq!((image.rip, image.rsi, image.cr3), (0x10_0010, 0x7000, 0x9000));
    assert_eq!(bytes(&memory, 0x10_00fe), [0x90, 0x90, 0, 0]);
    assert_eq!(bytes(&memory, 0x20_00fe), [0xcc, 0xcc, 0, 0]);
}

#[test]
fn pvh_starts_in_protected_mode_with_the_start_info() {
    let mut payload = payload(&elf(&pvh_note()));
    payload.initrd = Some(file_of(&[0x77; 0x1000]));
    let (memory, image) = boot(5 << 10, &payload).unwrap();
    assert_eq!((image.rip, image.cr0, image.efer), (0x10_0020, 0x11, 0));
    let info: [u8; 56] = bytes(&memory, image.rbx);
    let field = |at: usize| u64::from_le_bytes(info[at..at + 8].try_into().unwrap());
    assert_eq!(field(0), 0x1_336e_c578);
    assert_eq!(field(8), 1 << 32);
    assert_eq!(&bytes::<8>(&memory, field(24)), b"console=");
    assert_eq!(&bytes::<8>(&memory, field(32)), b"RSD PTR ");
    assert_eq!(u64::from_le_bytes(bytes(&memory, field(16))), 0xbfff_f000);
    assert_eq!(u64::from_le_bytes(bytes(&memory, field(16) + 8)), 0x1000);
    assert_eq!(field(48), 5);
    let last = field(40) + 4 * 24;
    assert_eq!(u64::from_le_bytes(bytes(&memory, last)), 1 << 32);
    assert_eq!(u64::from_le_bytes(bytes(&memory, last + 8)), 2 << 30);
}

#[test]
fn without_acpi_there_is_no_rsdp_and_devices_are_on_the_command_line() {
    let mut payload = payload(&bzimage());
    payload.tables = Tables::MpTable;
    let (memory, image) = boot(16, &payload).unwrap();
    let params: boot_params = memory.read_obj(GuestAddress(image.rsi)).unwrap();
    let rsdp = params.acpi_rsdp_addr;
    assert_eq!(rsdp, 0);
    assert_eq!(bytes(&memory, 0xe_0000), [0; 8]);
    assert_eq!(&bytes::<4>(&memory, 0x9_fc00), b"_MP_");
    assert_eq!(&bytes::<32>(&memory, 0x2_000d), b" virtio_mmio.device=4096@0xc0000");
}

#[test]
fn with_acpi_alone_there_is_no_mp_table() {
    let mut payload = payload(&bzimage());
    payload.tables = Tables::Acpi;
    let (memory, _) = boot(16, &payload).unwrap();
    assert_eq!(bytes(&memory, 0x9_fc00), [0; 4]);
}

#[test]
fn memory_that_is_not_the_layout_s_is_an_error() {
    let (layout, _) = ram_of(16 << 20);
    let (_, memory) = ram_of(1 << 20);
    let topology = Topology::flat(1).unwrap();
    let platform = Platform { layout: &layout, topology: &topology, nodes: &[] };
    let error = load(&memory, &platform, &payload(&bzimage())).unwrap_err().to_string();
    assert!(error.contains("kernel image cannot be put at 0x100000"), "{error}");
}

#[test]
fn a_machine_with_1_mib_is_told_that_it_is_too_small() {
    let error = boot(1, &payload(&bzimage())).unwrap_err().to_string();
    assert!(error.contains("give the machine at least 2 MiB"), "{error}");
}

#[test]
fn whatever_the_headers_say_a_kernel_that_loads_starts_in_ram() {
    let (layout, memory) = ram_of(16 << 20);
    let topology = Topology::flat(1).unwrap();
    let platform = Platform { layout: &layout, topology: &topology, nodes: &[] };
    let headers = [(bzimage(), 0x1f0..0x270), (elf(&pvh_note()), 0..0x100)];
    for (kernel, header) in headers {
        for (at, value) in header.flat_map(|at| [0, 0x7f, 0xff].map(|value| (at, value))) {
            let mut kernel = kernel.clone();
            kernel[at] = value;
            let rip = load(&memory, &platform, &payload(&kernel)).map(|image| image.rip);
            let outside = rip.is_ok_and(|rip| !(0x10_0000..16 << 20).contains(&rip));
            assert!(!outside, "byte {at:#x} = {value:#x}");
        }
    }
}

#[test]
fn a_kernel_cut_off_while_it_is_copied_is_an_error() {
    let kernel = bzimage();
    let file = file_of(&kernel);
    let opened = Kernel::new(&file, Protocol::Auto, 16 << 20).unwrap();
    file.set_len(0x500).unwrap();
    let (_, memory) = ram_of(16 << 20);
    let error = opened.copy(&memory).unwrap_err().to_string();
    assert_eq!(error, "1024 bytes at offset 0x400 of the kernel image cannot be put at 0x100000");
}
