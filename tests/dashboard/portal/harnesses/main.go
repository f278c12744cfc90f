package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
)

func main() {
	body, _ := os.ReadFile(os.Args[2])
	requests, _ := os.ReadFile(os.Args[3])
	for _, line := range strings.Split(strings.TrimSpace(string(requests)), "\n") {
		var given map[string]string
		if err := json.Unmarshal([]byte(line), &given); err != nil {
			panic(err)
		}
		header := http.Header{}
		for name, value := range given {
			header.Set(name, value)
		}
		fmt.Println(Verify(body, header, os.Args[1]))
	}
}
