use super::*;

fn entry(leaf: u32, subleaf: Option<u32>, [eax, ebx, ecx, edx]: [u32; 4]) -> CpuidEntry {
    CpuidEntry { leaf, subleaf, eax, ebx, ecx, edx }
}

/// As KVM answers on a processor of Intel's with two threads a core, shortened.
fn intel() -> Vec<CpuidEntry> {
    vec![
        entry(0, None, [0x1f, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
        entry(1, None, [0x606a6, 0x2310_0800, 0x7efa_7203, 0x1f8b_fbff]),
        entry(4, Some(0), [0x7c00_4121, 0x02c0_003f, 0x3f, 0]),
        entry(4, Some(1), [0x7c00_4122, 0x01c0_003f, 0x3f, 0]),
        entry(4, Some(2), [0x7c00_4143, 0x04c0_003f, 0x3ff, 0]),
        entry(4, Some(3), [0x7c0f_c163, 0x02c0_003f, 0xbfff, 4]),
        entry(4, Some(4), [0, 0, 0, 0]),
        entry(7, Some(0), [2, 0xf1bf_2ffb, 0x1b41_5f6e, 0xbc00_0410]),
        entry(0xb, Some(0), [1, 2, 0x100, 0x23]),
        entry(0xb, Some(1), [6, 0x40, 0x201, 0x23]),
        entry(0xd, Some(0), [0x2e7, 0xa88, 0xa88, 0]),
        entry(0x1f, Some(0), [1, 2, 0x100, 0x23]),
        entry(0x4000_0000, None, [0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d]),
        entry(0x8000_0008, None, [0x3034, 0x0100_d200, 0, 0]),
    ]
}

/// As KVM answers on a processor of AMD's, shortened.
fn amd() -> Vec<CpuidEntry> {
    vec![
        entry(0, None, [0x10, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
        entry(1, None, [0xa00f11, 0x0510_0800, 0x7ed8_320b, 0x178b_fbff]),
        entry(0x8000_0001, None, [0xa00f11, 0x4000_0000, 0x75c2_37ff, 0x2fd3_fbff]),
        entry(0x8000_0008, None, [0x3030, 0x111e_d205, 0x501f, 0x10000]),
        entry(0x8000_001d, Some(0), [0x4121, 0x01c0_003f, 0x3f, 0]),
        entry(0x8000_001d, Some(3), [0x3_c163, 0x03c0_003f, 0x7fff, 1]),
        entry(0x8000_001e, None, [5, 0x102, 0x300, 0]),
        entry(0x8000_0026, Some(0), [1, 2, 0x100, 5]),
    ]
}

fn policy(threads: u32, cores: u32, sockets: u32) -> CpuidPolicy {
    CpuidPolicy::host(Topology::new(threads, cores, sockets).unwrap())
}

fn find(entries: &[CpuidEntry], leaf: u32, subleaf: Option<u32>) -> CpuidEntry {
    let mut found = entries.iter().filter(|entry| entry.leaf == leaf && entry.subleaf == subleaf);
    let first = *found.next().unwrap();
    assert_eq!(found.next(), None, "leaf {leaf:#x} is there once");
    first
}

#[test]
fn the_first_leaf_has_the_apic_id_and_the_size_of_the_socket() {
    let first = find(&policy(2, 3, 2).entries(&intel(), 7), 1, None);
    assert_eq!(first.ebx, 9 << 24 | 8 << 16 | 0x0800);
    assert_eq!(first.edx & HTT, HTT);
}

#[test]
fn a_single_thread_has_no_hyper_threading_bit() {
    let first = find(&policy(1, 1, 4).entries(&intel(), 3), 1, None);
    assert_eq!((first.ebx, first.edx & HTT), (3 << 24 | 1 << 16 | 0x0800, 0));
}

#[test]
fn the_guest_knows_its_hypervisor_and_turns_xsave_on_itself() {
    let mut host = intel();
    host[1].ecx |= OSXSAVE;
    let first = find(&policy(1, 1, 1).entries(&host, 0), 1, None);
    assert_eq!(first.ecx & (HYPERVISOR | OSXSAVE), HYPERVISOR);
}

#[test]
fn topology_leaves_have_each_level_and_an_end() {
    let entries = policy(2, 3, 2).entries(&intel(), 7);
    for leaf in [0xb, 0x1f] {
        assert_eq!(find(&entries, leaf, Some(0)), entry(leaf, Some(0), [1, 2, 0x100, 9]));
        assert_eq!(find(&entries, leaf, Some(1)), entry(leaf, Some(1), [3, 6, 0x201, 9]));
        assert_eq!(find(&entries, leaf, Some(2)), entry(leaf, Some(2), [0, 0, 2, 9]));
    }
}

#[test]
fn a_host_without_topology_leaves_gets_the_older_one_only() {
    let host = [entry(0, None, [7, 0x756e_6547, 0x6c65_746e, 0x4965_6e69])];
    let entries = policy(1, 2, 1).entries(&host, 1);
    assert_eq!(find(&entries, 0, None).eax, 0xb);
    assert!(entries.iter().any(|entry| entry.leaf == 0xb));
    assert!(!entries.iter().any(|entry| entry.leaf == 0x1f));
}

#[test]
fn inner_caches_belong_to_a_core_and_the_last_to_a_socket() {
    let entries = policy(2, 4, 2).entries(&intel(), 0);
    let threads = |subleaf| (find(&entries, 4, Some(subleaf)).eax >> 14 & 0xfff) + 1;
    assert_eq!([0, 1, 2, 3].map(threads), [2, 2, 2, 8]);
    let cores = (find(&entries, 4, Some(3)).eax >> 26) + 1;
    assert_eq!(cores, 4);
    assert_eq!(find(&entries, 4, Some(4)).eax, 0);
}

#[test]
fn features_and_leaves_of_others_stay_as_they_are() {
    let entries = policy(2, 4, 2).entries(&intel(), 5);
    for (leaf, subleaf) in [(7, Some(0)), (0xd, Some(0)), (0x4000_0000, None), (SIZES, None)] {
        assert_eq!(find(&entries, leaf, subleaf), find(&intel(), leaf, subleaf));
    }
}

#[test]
fn amd_sizes_count_the_threads_of_a_socket() {
    let sizes = find(&policy(2, 3, 2).entries(&amd(), 0), SIZES, None);
    assert_eq!(sizes.ecx, 3 << 12 | 5);
}

#[test]
fn amd_caches_are_shared_as_intel_s() {
    let entries = policy(2, 4, 1).entries(&amd(), 0);
    let threads = |subleaf| (find(&entries, AMD_CACHES, Some(subleaf)).eax >> 14 & 0xfff) + 1;
    assert_eq!([0, 3].map(threads), [2, 8]);
}

#[test]
fn amd_topology_names_core_and_socket() {
    let topology = find(&policy(2, 3, 2).entries(&amd(), 9), AMD_TOPOLOGY, None);
    assert_eq!(topology, entry(AMD_TOPOLOGY, None, [11, 0x101, 1, 0]));
}

#[test]
fn amd_cores_are_told_from_threads() {
    let legacy = |policy: CpuidPolicy| {
        find(&policy.entries(&amd(), 0), AMD_FEATURES, None).ecx & CMP_LEGACY != 0
    };
    assert!(legacy(policy(1, 2, 1)));
    assert!(!legacy(policy(1, 1, 2)));
}

#[test]
fn amd_s_newest_topology_leaf_is_left_out() {
    let entries = policy(1, 2, 1).entries(&amd(), 0);
    assert!(!entries.iter().any(|entry| entry.leaf == AMD_TOPOLOGY_V2));
}
