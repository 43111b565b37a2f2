package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sigs.k8s.io/randfill"
)

// Values at the edges of what the encodings hold. Raw JSON has only what every writer writes alike.
var (
	wildTexts = []string{
		"", "a", "b-c", "Ü\"\\\n<&>", "日本", "x.y/z", "null", "true", "1e3", " ", "~", "- a: b",
		"\u0001\t\r\u007f", "\u2028\u2029\ufffd", "😀", strings.Repeat("x", 127),
		strings.Repeat("y", 128),
	}
	wildQuantities = []string{
		"0", "1", "-1", "100m", "1.5", "1500m", "1Gi", "1.5Gi", "0.5Mi", "12e6", "1E", "1n", "5u",
		"0.001", "1e3", "-250m", "9223372036854775807", "123456789012345678901234567890", "1e-3",
		"1.23456789Ki", "0.0000000001", "100000000000000000000", "-0.5", "1024", "1000Ki",
	}
	wildFloats = []float64{
		0, 1, -1, 0.1, 1.5, 1e20, 1e21, 1e-6, 1e-7, 123456789.125, math.MaxFloat64,
		math.SmallestNonzeroFloat64, -2.5e-10, 1 << 53, math.Copysign(0, -1),
	}
	wildRaw = []string{
		`{}`, `{"a":null}`, `[]`, `[1,"x",true,{"b":[]}]`, `"text"`, `7`, `true`, `{"n":-3,"ü":"日"}`,
	}
)

// Seconds of the first and of the last year that both encodings write.
const firstSecond, lastSecond = -62135596799, 253402300799

func wildSeconds(c randfill.Continue) int64 {
	if c.Bool() {
		return int64(c.Int31())
	}
	return firstSecond + c.Int63n(lastSecond-firstSecond)
}

func wildInteger(c randfill.Continue, low, high int64) int64 {
	edges := []int64{0, 1, -1, 127, 128, low, high, c.Int63() >> uint(c.Intn(63))}
	return min(max(edges[c.Intn(len(edges))], low), high)
}

func wildFuncs(serializer.CodecFactory) []interface{} {
	return []interface{}{
		func(s *string, c randfill.Continue) {
			*s = wildTexts[c.Intn(len(wildTexts))]
			if c.Intn(5000) == 0 {
				*s = strings.Repeat("ü", 9000)
			}
		},
		func(q *resource.Quantity, c randfill.Continue) {
			*q = resource.MustParse(wildQuantities[c.Intn(len(wildQuantities))])
		},
		func(f *float64, c randfill.Continue) { *f = wildFloats[c.Intn(len(wildFloats))] },
		func(n *int32, c randfill.Continue) {
			*n = int32(wildInteger(c, math.MinInt32, math.MaxInt32))
		},
		func(n *int64, c randfill.Continue) { *n = wildInteger(c, math.MinInt64, math.MaxInt64) },
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.Unix(wildSeconds(c), 0) },
		func(t *metav1.MicroTime, c randfill.Continue) {
			t.Time = time.Unix(wildSeconds(c), int64(c.Intn(1_000_000))*1000)
		},
		func(d *metav1.Duration, c randfill.Continue) {
			d.Duration = time.Duration(wildInteger(c, math.MinInt64, math.MaxInt64))
		},
		func(i *intstr.IntOrString, c randfill.Continue) {
			*i = intstr.FromInt32(int32(wildInteger(c, math.MinInt32, math.MaxInt32)))
			if c.Bool() {
				*i = intstr.FromString(wildTexts[c.Intn(len(wildTexts))])
			}
		},
		func(b *[]byte, c randfill.Continue) {
			*b = []byte(c.String(c.Intn(300)))
		},
		func(raw *runtime.RawExtension, c randfill.Continue) {
			raw.Raw = []byte(wildRaw[c.Intn(len(wildRaw))])
		},
		func(raw *apiextensions.JSON, c randfill.Continue) {
			raw.Raw = []byte(wildRaw[c.Intn(len(wildRaw))])
		},
		func(raw *metav1.FieldsV1, c randfill.Continue) {
			*raw = metav1.FieldsV1{}
			_ = raw.UnmarshalJSON([]byte(fmt.Sprintf(`{"f:a":{".":{},"k:{\"n\":%d}":{}}}`, c.Int31())))
		},
	}
}
