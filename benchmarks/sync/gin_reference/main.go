// A reference for the benchmark, not a product: what a plain Go server of the same job costs.
//
// Same job as sync-server: a signed token on every request, metadata from SQLite as JSON, uploads hashed with
// SHA-256 and on disk (fsync of file and folder) before the answer, downloads by sendfile.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	_ "github.com/mattn/go-sqlite3"
)

const nodes = 20000

type claims struct {
	Subject string `json:"sub"`
	Device  int64  `json:"device"`
	Epoch   int64  `json:"epoch"`
	Scope   string `json:"scope"`
	Expires int64  `json:"exp"`
}

type node struct {
	ID       string `json:"id"`
	Parent   string `json:"parent"`
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	Revision int64  `json:"revision"`
	Size     int64  `json:"size"`
	Mtime    int64  `json:"mtime"`
	Exec     bool   `json:"executable"`
	Hash     string `json:"hash"`
}

type server struct {
	key    []byte
	folder string
	read   *sql.Stmt
	write  *sql.Stmt
	known  sync.Map // token -> claims: sync-server remembers verified tokens too
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: gin_reference ADDRESS FOLDER KEY")
	}
	address, folder, key := os.Args[1], os.Args[2], os.Args[3]
	database, err := sql.Open("sqlite3", "file:"+filepath.Join(folder, "reference.db")+"?_journal=WAL&_sync=FULL")
	check(err)
	check(fill(database))
	s := &server{key: []byte(key), folder: folder}
	s.read, err = database.Prepare("SELECT id, parent, name, kind, revision, size, mtime, executable, hash FROM nodes WHERE id = ?")
	check(err)
	s.write, err = database.Prepare(`INSERT INTO nodes VALUES (?, 'root', ?, 'file', 1, ?, ?, 0, ?)
		ON CONFLICT (id) DO UPDATE SET revision = revision + 1, size = excluded.size, mtime = excluded.mtime, hash = excluded.hash`)
	check(err)

	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.Use(gin.Recovery(), s.authenticate)
	router.GET("/nodes/:id", s.metadata)
	router.PUT("/files/:name", s.upload)
	router.GET("/files/:name", s.download)
	check(http.ListenAndServe(address, router))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func fill(database *sql.DB) error {
	_, err := database.Exec(`CREATE TABLE IF NOT EXISTS nodes (id TEXT PRIMARY KEY, parent TEXT, name TEXT, kind TEXT,
		revision INTEGER, size INTEGER, mtime INTEGER, executable INTEGER, hash TEXT) WITHOUT ROWID`)
	if err != nil {
		return err
	}
	transaction, err := database.Begin()
	if err != nil {
		return err
	}
	for i := 0; i < nodes; i++ {
		_, err = transaction.Exec("INSERT OR IGNORE INTO nodes VALUES (?, 'root', ?, 'file', ?, 4096, 1700000000000, 0, ?)",
			fmt.Sprintf("n%d", i), fmt.Sprintf("file-%d.txt", i), i, strings.Repeat("ab", 32))
		if err != nil {
			return err
		}
	}
	return transaction.Commit()
}

func (s *server) authenticate(c *gin.Context) {
	token := strings.TrimPrefix(c.GetHeader("Authorization"), "Bearer ")
	if known, ok := s.known.Load(token); ok && known.(claims).Expires > time.Now().Unix() {
		return
	}
	verified, ok := verify(token, s.key)
	if !ok || verified.Expires <= time.Now().Unix() {
		c.AbortWithStatusJSON(http.StatusUnauthorized, gin.H{"title": "No valid token", "status": 401})
		return
	}
	s.known.Store(token, verified)
}

func verify(token string, key []byte) (claims, bool) {
	var result claims
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return result, false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(parts[0] + "." + parts[1]))
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || subtle.ConstantTimeCompare(signature, mac.Sum(nil)) != 1 {
		return result, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	return result, err == nil && json.Unmarshal(payload, &result) == nil
}

func (s *server) metadata(c *gin.Context) {
	var n node
	err := s.read.QueryRow(c.Param("id")).Scan(&n.ID, &n.Parent, &n.Name, &n.Kind, &n.Revision, &n.Size, &n.Mtime, &n.Exec, &n.Hash)
	if err == sql.ErrNoRows {
		c.JSON(http.StatusNotFound, gin.H{"title": "Not found", "status": 404})
		return
	}
	if err != nil {
		c.AbortWithStatus(http.StatusInternalServerError)
		return
	}
	c.JSON(http.StatusOK, n)
}

func (s *server) upload(c *gin.Context) {
	name := filepath.Base(c.Param("name"))
	size, digest, err := s.store(name, c.Request.Body)
	if err == nil {
		_, err = s.write.Exec(name, name, size, time.Now().UnixMilli(), digest)
	}
	if err != nil {
		c.AbortWithStatus(http.StatusInternalServerError)
		return
	}
	c.JSON(http.StatusCreated, gin.H{"hash": digest, "size": size})
}

func (s *server) store(name string, body io.Reader) (int64, string, error) {
	temporary, err := os.CreateTemp(s.folder, "upload-*")
	if err != nil {
		return 0, "", err
	}
	defer os.Remove(temporary.Name())
	defer temporary.Close()
	hash := sha256.New()
	size, err := io.CopyBuffer(io.MultiWriter(temporary, hash), body, make([]byte, 256*1024))
	if err != nil {
		return 0, "", err
	}
	if err = temporary.Sync(); err != nil {
		return 0, "", err
	}
	if err = os.Rename(temporary.Name(), filepath.Join(s.folder, name)); err != nil {
		return 0, "", err
	}
	directory, err := os.Open(s.folder)
	if err != nil {
		return 0, "", err
	}
	defer directory.Close()
	return size, hex.EncodeToString(hash.Sum(nil)), directory.Sync()
}

func (s *server) download(c *gin.Context) {
	http.ServeFile(c.Writer, c.Request, filepath.Join(s.folder, filepath.Base(c.Param("name"))))
}
