package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bitgram/bitgram/internal/api"
	"github.com/bitgram/bitgram/internal/mail"
	"github.com/bitgram/bitgram/internal/node/delivery"
)

func (a *app) readCommand() *cobra.Command {
	var out, dir string
	var whole, now bool
	c := &cobra.Command{
		Use:   "read [ID]",
		Short: "Read a message",
		Long: "Writes what was sent. For a message made from one file, that is the file, byte for byte. For a message\n" +
			"with attachments it is the text; --attachments saves the attachments. --mime writes the whole MIME\n" +
			"message.\n\n" +
			"The first digits of an ID are enough. Without an ID, it reads the newest message received. If the\n" +
			"message is still arriving, it waits.",
		Example: "  bitgram read\n" +
			"  bitgram read 3fa9 -o letter.pdf\n" +
			"  bitgram read 3fa9 --attachments ./saved",
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.dial()
			if err != nil {
				return err
			}
			for _, path := range []string{out, dir} {
				if err := checkOutput(path, path == dir && dir != ""); err != nil {
					return err
				}
			}
			if len(args) == 0 {
				list, _, err := client.List(c.Context(), "inbox", 1000)
				if err != nil {
					return err
				}
				i := slices.IndexFunc(list, func(m api.Message) bool { return m.State == "delivered" })
				if i < 0 {
					return fmt.Errorf("%w: the inbox is empty", delivery.ErrNoMessage)
				}
				args = []string{list[i].ID}
			}
			return a.read(c.Context(), client, args[0], out, dir, whole, now)
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "write to this file instead of standard output")
	c.Flags().StringVar(&dir, "attachments", "", "save attachments in this directory")
	c.Flags().BoolVar(&now, "no-wait", false, "fail if the message is still arriving, instead of waiting")
	c.Flags().BoolVar(&whole, "mime", false, "write the whole MIME message")
	return c
}

func (a *app) read(ctx context.Context, client *api.Client, id, out, dir string, whole, now bool) error {
	m, err := client.Message(ctx, id)
	if err == nil && m.Direction == "received" && m.State == "queued" && !now {
		lost := a.until(ctx, client, about(func(e api.Message) bool { return e.Direction == "received" }), func() bool {
			m, err = client.Message(ctx, m.ID)
			return err != nil || m.State != "queued"
		})
		err = errors.Join(lost, err)
	}
	if err != nil {
		return err
	}
	content, err := client.Content(ctx, id)
	if err != nil {
		return err
	}
	defer content.Close()
	source := a.watch("reading", content, m.Bytes)
	var body io.Reader = source
	var msg *mail.Message
	if !whole {
		if msg, err = mail.Read(source); err != nil {
			return err
		}
		part, err := msg.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if body = part.Body; body == nil {
			body = strings.NewReader("")
		}
	}
	var n int64
	switch {
	case out != "":
		err = writeWhole(out, func(w io.Writer) error {
			n, err = io.Copy(w, body)
			return err
		})
	case a.json:
		n, err = io.Copy(io.Discard, body) // standard output is for JSON
	case terminal(a.out):
		n, err = showText(a.out, body)
	default:
		n, err = io.Copy(a.out, body)
	}
	if err != nil {
		return err
	}
	saved := []string{}
	for msg != nil {
		part, err := msg.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		path := ""
		if dir != "" {
			path = filepath.Join(dir, fileName(part.Name, len(saved)))
			if path, err = writeNew(path, part.Body); err != nil {
				return err
			}
		} else if _, err := io.Copy(io.Discard, part.Body); err != nil {
			return err
		}
		if path == "" {
			path = part.Name
		}
		saved = append(saved, path)
	}
	a.print.summary(struct {
		api.Message
		Bytes       int64    `json:"bytes"`
		Output      string   `json:"output,omitempty"`
		Attachments []string `json:"attachments"`
	}{m, n, out, saved}, func(io.Writer) {
		if out != "" {
			fmt.Fprintf(a.err, "%d bytes from %s, written to %s\n", n, m.From, out)
		}
		for _, s := range saved {
			verb := "attached, --attachments saves it"
			if dir != "" {
				verb = "saved"
			}
			fmt.Fprintf(a.err, "%s: %s\n", verb, printable(s))
		}
	})
	return nil
}

// fileName is a stranger's file name that leads nowhere else.
func fileName(name string, n int) string {
	name = printable(filepath.Base(filepath.Clean("/" + strings.ReplaceAll(name, `\`, "/"))))
	if name == "/" || name == "." || strings.HasPrefix(name, ".") || len(name) > 200 {
		name = fmt.Sprintf("attachment-%d", n+1)
	}
	return name
}
