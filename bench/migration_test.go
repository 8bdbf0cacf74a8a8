package bench

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/gomodule/redigo/redis"
	"github.com/redis/rueidis"
)

// Those who come from another client find each of its settings.
func TestTheMigrationPageHasEverySetting(t *testing.T) {
	page, err := os.ReadFile("../docs/migration.md")
	if err != nil {
		t.Fatal(err)
	}
	for heading, settings := range map[string]reflect.Type{
		"From redigo":  reflect.TypeFor[redis.Pool](),
		"From rueidis": reflect.TypeFor[rueidis.ClientOption](),
	} {
		_, section, _ := strings.Cut(string(page), "\n## "+heading+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		for _, f := range reflect.VisibleFields(settings) {
			if f.IsExported() && !strings.Contains(section, "`"+f.Name+"`") {
				t.Errorf("%s: %s isn't in it", heading, f.Name)
			}
		}
	}
}
