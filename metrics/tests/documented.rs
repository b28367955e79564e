//! What is listed is explained.

#[test]
fn every_metric_stands_in_the_page_of_definitions() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/evaluation.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let registry = metrics::Registry::default();
    let names = registry.names();
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "`{name}` is listed and not explained");
    }
}
