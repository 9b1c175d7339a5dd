//! Where memory is mapped. In a process of its own: tests beside it that map memory would take the places.

use purlin_memory::{Backing, GuestAddress, GuestMemoryBackend, Ram};

const HUGE: usize = 2 << 20;

#[test]
fn ram_lies_where_huge_pages_can_serve_it_whatever_its_length() {
    for pages in [512, 513, 1024 + 77] {
        let start = GuestAddress(0);
        let ram = Ram::new(&[(start, pages * 0x1000)], Backing::Anonymous).unwrap();
        let host = ram.memory().get_host_address(start).unwrap().addr();
        assert_eq!(host % HUGE, 0, "{pages} pages");
    }
}
