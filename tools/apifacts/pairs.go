package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"os"
	"reflect"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"sigs.k8s.io/randfill"
)

// pair is one object in both encodings. back is the JSON of what decoding the protobuf gives, if it
// is not json: protobuf does not tell an empty list from none.
type pair struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	JSON       json.RawMessage `json:"json"`
	Proto      []byte          `json:"proto"`
	Back       json.RawMessage `json:"back,omitempty"`
}

// fuzzPairs fills objects at random; extra says how, beyond what a small corpus needs.
func fuzzPairs(out io.Writer, n int, seed int64, extra ...fuzzer.FuzzerFuncs) error {
	scheme, err := fullScheme()
	if err != nil {
		return err
	}
	codecs := serializer.NewCodecFactory(scheme)
	all := append([]fuzzer.FuzzerFuncs{metafuzzer.Funcs, rawFuncs, schemaFuncs}, extra...)
	funcs := fuzzer.MergeFuzzerFuncs(all...)
	filler := fuzzer.FuzzerFor(funcs, rand.NewSource(seed), codecs).NumElements(0, 2)
	filler.NilChance(0.5).MaxDepth(24)
	wire := protobuf.NewSerializer(scheme, scheme)
	buffered := bufio.NewWriter(out)
	done := map[reflect.Type]bool{}
	for _, kind := range knownKinds(scheme) {
		if done[kind.typ] {
			continue
		}
		done[kind.typ] = true
		if _, ok := scheme.AllKnownTypes()[kind.gvk]; !ok || !encodable(scheme, kind.gvk) {
			continue
		}
		for range n {
			obj, err := scheme.New(kind.gvk)
			if err != nil {
				return err
			}
			filler.Fill(obj)
			p, err := makePair(scheme, wire, kind.gvk, obj)
			if err != nil {
				return fmt.Errorf("%v: %w", kind.gvk, err)
			}
			line, err := json.Marshal(p)
			if err != nil {
				return err
			}
			buffered.Write(line)
			buffered.WriteByte('\n')
		}
	}
	return buffered.Flush()
}

// writeCorpus writes what the tests of crates/schema commit.
func writeCorpus(path string) error {
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := fuzzPairs(z, 1, 7); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, packed.Bytes(), 0o644)
}

func encodable(scheme *runtime.Scheme, gvk schema.GroupVersionKind) bool {
	obj, err := scheme.New(gvk)
	if err != nil {
		return false
	}
	_, ok := obj.(interface{ Marshal() ([]byte, error) })
	// Events of a watch have no envelope.
	return ok && gvk.Kind != "WatchEvent"
}

// rawFuncs fills raw JSON with JSON, and strings with short text so that a corpus stays small.
func rawFuncs(serializer.CodecFactory) []interface{} {
	texts := []string{"", "a", "b-c", "Ü\"\\\n<&>", "日本", "x.y/z"}
	return []interface{}{
		func(s *string, c randfill.Continue) { *s = texts[c.Intn(len(texts))] },
		func(raw *runtime.RawExtension, c randfill.Continue) {
			raw.Raw = []byte(fmt.Sprintf(`{"apiVersion":"v1","kind":"X","n":%d}`, c.Int31()))
		},
		func(raw *metav1.FieldsV1, c randfill.Continue) {
			*raw = metav1.FieldsV1{}
			_ = raw.UnmarshalJSON([]byte(`{"f:a":{"f:b":{}}}`))
		},
	}
}

func makePair(scheme *runtime.Scheme, wire runtime.Encoder, gvk schema.GroupVersionKind,
	obj runtime.Object) (*pair, error) {
	first, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	canonical, err := reread(scheme, gvk, func(into runtime.Object) error {
		return json.Unmarshal(first, into)
	})
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(canonical)
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if err := wire.Encode(canonical, &body); err != nil {
		return nil, err
	}
	decoded, _, err := wire.(runtime.Serializer).Decode(body.Bytes(), &gvk, nil)
	if err != nil {
		return nil, err
	}
	decoded.GetObjectKind().SetGroupVersionKind(gvk)
	back, err := json.Marshal(decoded)
	if err != nil {
		return nil, err
	}
	apiVersion, k := gvk.ToAPIVersionAndKind()
	p := &pair{APIVersion: apiVersion, Kind: k, JSON: text, Proto: body.Bytes()}
	if !bytes.Equal(text, back) {
		p.Back = back
	}
	return p, nil
}

func reread(scheme *runtime.Scheme, gvk schema.GroupVersionKind,
	decode func(runtime.Object) error) (runtime.Object, error) {
	obj, err := scheme.New(gvk)
	if err != nil {
		return nil, err
	}
	if err := decode(obj); err != nil {
		return nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	return obj, nil
}

// schemaFuncs fills the recursive types of CustomResourceDefinitions, to a depth that ends.
func schemaFuncs(serializer.CodecFactory) []interface{} {
	return []interface{}{
		func(s *apiextensions.JSONSchemaProps, c randfill.Continue) {
			c.Fill(&s.Type)
			c.Fill(&s.Description)
			c.Fill(&s.Maximum)
			c.Fill(&s.MinLength)
			c.Fill(&s.UniqueItems)
			c.Fill(&s.Required)
			c.Fill(&s.ExternalDocs)
			c.Fill(&s.XPreserveUnknownFields)
			c.Fill(&s.XListMapKeys)
			c.Fill(&s.XMapType)
			s.Default = &apiextensions.JSON{Raw: []byte(fmt.Sprintf(`{"a":[%d]}`, c.Int31()))}
			s.Enum = []apiextensions.JSON{{Raw: []byte(`"x"`)}, {Raw: []byte(`1.5`)}}
			leaf := apiextensions.JSONSchemaProps{Type: c.String(0)}
			switch c.Intn(4) {
			case 0:
				s.Properties = map[string]apiextensions.JSONSchemaProps{"a": leaf, "b": leaf}
				s.Items = &apiextensions.JSONSchemaPropsOrArray{Schema: &leaf}
			case 1:
				s.Items = &apiextensions.JSONSchemaPropsOrArray{
					JSONSchemas: []apiextensions.JSONSchemaProps{leaf, leaf}}
				s.AdditionalProperties = &apiextensions.JSONSchemaPropsOrBool{Allows: c.Bool()}
			case 2:
				s.AdditionalItems = &apiextensions.JSONSchemaPropsOrBool{Allows: true, Schema: &leaf}
				s.Not = &leaf
			default:
				s.Dependencies = apiextensions.JSONSchemaDependencies{
					"a": {Property: []string{"p"}}, "b": {Schema: &leaf}}
			}
		},
		func(s *apiextensionsv1beta1.JSONSchemaProps, c randfill.Continue) {
			c.Fill(&s.Type)
			c.Fill(&s.Maximum)
			s.Items = &apiextensionsv1beta1.JSONSchemaPropsOrArray{
				Schema: &apiextensionsv1beta1.JSONSchemaProps{Type: c.String(0)}}
		},
	}
}
