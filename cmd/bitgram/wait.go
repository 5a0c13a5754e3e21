package main

import (
	"context"
	"errors"
	"io"

	"github.com/bitgram/bitgram/internal/api"
)

// errInterrupted is returned by a command that a signal ended.
var errInterrupted = errors.New("interrupted")

// errMaybe is returned when a command is interrupted while the daemon does
// something that must not be done twice.
var errMaybe = errors.New("interrupted before the daemon answered: it may have been done")

// maybe turns the error of an interrupted request into errMaybe.
func maybe(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errMaybe
	}
	return err
}

// about returns a filter for until: events of type E for which f is true.
func about[E any](f func(E) bool) func(any) bool {
	return func(e any) bool {
		v, ok := e.(E)
		return ok && f(v)
	}
}

// until calls look at once, and again after every event that concerns it and
// after every block, until look returns true. It returns an error if the daemon's
// events end first.
func (a *app) until(ctx context.Context, client *api.Client, concerns func(any) bool, look func() bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for done, heard := false, false; ; {
		// A stream that ends may have been too slow for all that happened: as long
		// as a new one opens, nothing is lost.
		heard = false
		err := client.Events(ctx, func() {
			heard = true
			if done = look(); done { // before anybody listened
				cancel()
			}
		}, func(e any) bool {
			switch e := e.(type) {
			case api.Progress:
				a.print.progress(e.What, e.Done, e.Total)
			case api.Tip:
				done = look()
			default:
				if concerns(e) {
					done = look()
				}
			}
			return !done
		})
		if done {
			return nil
		}
		if !heard || ctx.Err() != nil {
			return err
		}
	}
}

// watch returns r, and shows how much of it has been read.
func (a *app) watch(what string, r io.Reader, total uint64) io.Reader {
	return &watched{r: r, tell: func(done uint64) { a.print.progress(what, done, total) }}
}

type watched struct {
	r    io.Reader
	done uint64
	tell func(uint64)
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	w.done += uint64(n)
	w.tell(w.done)
	return n, err
}

// failure is the error of a message or bank that failed, with the failure's code.
type failure struct {
	by  api.Code
	why string
}

// Error implements error.
func (f *failure) Error() string { return f.why }
