package bench

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// The dashboards are what Grafana's own schema takes: no field is missing that it requires, and
// there is none that it doesn't know.
func TestDashboardsFollowGrafanasSchema(t *testing.T) {
	r := cog.NewRuntime()
	r.RegisterPanelcfgVariant(stat.VariantConfig())
	r.RegisterPanelcfgVariant(timeseries.VariantConfig())
	r.RegisterDataqueryVariant(prometheus.VariantConfig())
	files, err := filepath.Glob("../docs/dashboards/*.json")
	if err != nil || len(files) < 2 {
		t.Fatalf("dashboards %q, %v", files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard.Dashboard                                                //nolint:staticcheck // the files are of the form that older versions of Grafana read, too
		if err := d.UnmarshalJSONStrict(text); err == nil || err.Error() != "" { // it returns its list of errors, and never nil
			t.Errorf("%s: %v", filepath.Base(name), err)
		}
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", filepath.Base(name), err)
		}
	}
}
