use super::*;

fn registers() -> Registers {
    Registers {
        general: std::array::from_fn(|number| number as u64),
        rip: 0x1000,
        rflags: 0x46,
        control: [0x11, 0xdead_b000, 0x9000, 0x20],
        efer: 0x500,
        cs: (0x10, 0),
        bits: 64,
    }
}

#[test]
fn a_triple_fault_shows_registers_and_the_instruction() {
    let code = vec![0x48, 0x8b, 0x03, 0x90];
    let fault = Fault { reason: FaultReason::TripleFault, registers: Some(registers()), code };
    assert_eq!(
        fault.to_string(),
        "the guest triple-faulted: it took an exception, had no working handler for it, and none \
         for that failure either
  rip 0000000000001000  rflags 00000046  cs 0010 (base 0, 64-bit)
  rax 0000000000000000  rbx 0000000000000001  rcx 0000000000000002  rdx 0000000000000003
  rsi 0000000000000004  rdi 0000000000000005  rsp 0000000000000006  rbp 0000000000000007
   r8 0000000000000008   r9 0000000000000009  r10 000000000000000a  r11 000000000000000b
  r12 000000000000000c  r13 000000000000000d  r14 000000000000000e  r15 000000000000000f
  cr0 00000011  cr2 00000000deadb000  cr3 0000000000009000  cr4 00000020  efer 500
  code 48 8b 03 90
  at rip: mov rax,[rbx]"
    );
}

#[test]
fn without_code_and_registers_it_says_so() {
    let fault = Fault { reason: FaultReason::GuestCrash, registers: None, code: Vec::new() };
    assert_eq!(
        fault.to_string(),
        "the guest reported that it crashed\n  \
         the instruction cannot be read: no RAM is mapped there"
    );
}

#[test]
fn the_mode_decides_what_the_bytes_mean() {
    let registers = Registers { bits: 16, ..registers() };
    let fault = Fault {
        reason: FaultReason::TripleFault,
        registers: Some(registers),
        code: vec![0xb8, 0x34, 0x12],
    };
    assert!(fault.to_string().ends_with("at rip: mov ax,1234h"));
}

#[test]
fn bytes_that_are_no_instruction_are_called_that() {
    let fault = Fault {
        reason: FaultReason::TripleFault,
        registers: Some(registers()),
        code: vec![0xff, 0xff],
    };
    assert!(fault.to_string().ends_with("at rip: no valid instruction"));
}

#[test]
fn an_instruction_that_cannot_be_emulated_is_found_in_the_data() {
    let bytes = u64::from_le_bytes([3, 0x0f, 0x01, 0xd9, 0, 0, 0, 0]);
    let reason = FaultReason::InternalError { suberror: 1, data: vec![1, bytes, 0] };
    assert_eq!(reason.instruction().as_deref(), Some(&[0x0f, 0x01, 0xd9][..]));
    assert_eq!(
        reason.to_string(),
        "KVM gave up on the guest: it had to emulate an instruction and could not \
         (KVM_INTERNAL_ERROR_EMULATION); data 0x1, 0xd9010f03, 0x0"
    );
}

#[test]
fn data_without_the_flag_is_no_instruction() {
    let reason = FaultReason::InternalError { suberror: 1, data: vec![0, 3] };
    assert_eq!(reason.instruction(), None);
    let reason = FaultReason::InternalError { suberror: 1, data: vec![1] };
    assert_eq!(reason.instruction(), None);
}

#[test]
fn a_refused_entry_is_explained() {
    let reason = FaultReason::EntryFailed { reason: 0x8000_0021, cpu: 3 };
    assert_eq!(
        reason.to_string(),
        "the processor refused to enter the guest (reason 0x80000021, host CPU 3): \
         the guest's registers contradict each other"
    );
}

#[test]
fn unexpected_exits_have_their_name() {
    let named = FaultReason::Unexpected { exit: 29 }.to_string();
    assert!(named.ends_with("KVM_EXIT_X86_RDMSR (29)"), "{named}");
    let unknown = FaultReason::Unexpected { exit: 40 }.to_string();
    assert!(unknown.ends_with("exit 40, which this version does not know"), "{unknown}");
}

#[test]
fn unknown_internal_errors_keep_their_number() {
    let reason = FaultReason::InternalError { suberror: 0, data: Vec::new() };
    assert_eq!(reason.to_string(), "KVM gave up on the guest: internal error 0");
}
