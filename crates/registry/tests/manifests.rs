//! Ordinary manifests go through every hook of their row: nothing is wrong with them, defaults are
//! stable, and writing the same object again changes nothing.
use api::Value;
use registry::RESOURCES;

#[test]
fn ordinary_manifests_are_good() {
    let all: Vec<Value> =
        serde_json::from_str(include_str!("manifests.json")).expect("the file is JSON");
    for mut object in all {
        let (version, kind) = (object["apiVersion"].clone(), object["kind"].clone());
        let row = RESOURCES
            .iter()
            .find(|row| {
                let gvk = &row.info().gvk;
                version == gvk.api_version().as_ref() && kind == gvk.kind.as_ref()
            })
            .expect("every manifest is of a kind that is served");
        object["metadata"]["uid"] = "c0ffee".into();
        row.default(&mut object);
        row.prepare_create(&mut object);
        assert_eq!(row.validate(&object, None), [], "{kind}");
        let stored = object.clone();
        row.default(&mut object);
        assert_eq!(object, stored, "{kind}: defaults change what is stored");
        row.prepare_update(&mut object, &stored);
        assert_eq!(object, stored, "{kind}: the same object again is a change");
        assert_eq!(row.validate(&object, Some(&stored)), [], "{kind}");
    }
}
