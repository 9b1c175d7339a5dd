//! A hypervisor that plays exits from a list.
