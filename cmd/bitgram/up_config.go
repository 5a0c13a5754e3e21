package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"

	"github.com/bitgram/bitgram/internal/home"
)

// errConfig marks a config.toml that up cannot use.
var errConfig = errors.New("bad configuration")

// readConfig sets the flags that the home's config.toml has and the command line
// does not.
func readConfig(h home.Home, f *pflag.FlagSet) error {
	path := filepath.Join(h.Dir, home.FileConfig)
	var values map[string]any
	if _, err := toml.DecodeFile(path, &values); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("%w: %s: %w", errConfig, path, err)
	}
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(upOptions).flags(own)
	for key, v := range values {
		if fl := own.Lookup(key); fl == nil || fl.Hidden {
			return fmt.Errorf("%w: %s: unknown key %q", errConfig, path, key)
		}
		if f.Changed(key) {
			continue
		}
		text := fmt.Sprint(v)
		if list, ok := v.([]any); ok {
			var items []string
			for _, i := range list {
				items = append(items, fmt.Sprint(i))
			}
			text = strings.Join(items, ",")
		}
		if err := f.Set(key, text); err != nil {
			return fmt.Errorf("%w: %s: %s: %w", errConfig, path, key, err)
		}
	}
	return nil
}

// writeConfig writes a config.toml in which every key is documented and commented
// out, so that it changes nothing.
func writeConfig(h home.Home) error {
	var b strings.Builder
	b.WriteString("# The flags of 'bitgram up'. Remove a # to set one.\n")
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.SortFlags = false
	new(upOptions).flags(f)
	f.VisitAll(func(fl *pflag.Flag) {
		if fl.Hidden {
			return
		}
		value := fl.DefValue
		switch fl.Value.Type() {
		case "string", "duration":
			value = fmt.Sprintf("%q", value)
		case "stringSlice":
			value = strings.NewReplacer("[", `["`, ",", `", "`, "]", `"]`).Replace(value)
			if value == `[""]` {
				value = "[]"
			}
		}
		fmt.Fprintf(&b, "\n# %s\n# %s = %s\n", fl.Usage, fl.Name, value)
	})
	return h.WriteConfig([]byte(b.String()))
}
