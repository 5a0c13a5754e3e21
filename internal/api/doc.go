// Package api is what a program needs to use the daemon's local API: the types
// that it answers with, the codes of its errors, and a client. The server is
// package web; neither the node nor the HTTP framework is imported here.
//
// The API is HTTP with JSON on a loopback address, described by OpenAPI at
// /openapi.json. Every request but /health carries the home's token.
package api
