//! The mock passes what every backend must.

use purlin_hypervisor::{conformance, mock::Host};

#[test]
fn the_mock_conforms() {
    conformance::all(&Host::default());
}
