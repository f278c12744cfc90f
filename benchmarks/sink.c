/* A listener that is faster than what is measured: answers every HTTP/1.1 request with an empty 200.
 *
 * One wildcard socket serves all of 127.0.0.0/8, so that every loopback address is an origin of its own.
 * GET /count answers how many requests there were that were not a GET. Requests whose path begins with /hang get
 * no answer; of those whose path begins with /tenth one in ten is answered 500. From PUT /down to PUT /up everything else is answered 503. Prints {"port": N}; ends when its standard input closes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 512
#define FIRST_ROOM 2048
#define MOST_ROOM (1 << 20)

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
static const char REFUSAL[] = "HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n";
static const char LENGTH_NAME[] = "\r\nContent-Length:";

struct connection {
    int socket;
    size_t used, room;
    char *bytes;
};

static const char FAILURE[] = "HTTP/1.1 500 Tenth\r\nContent-Length: 0\r\n\r\n";

static unsigned long long requests, tenths;
static int is_down;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static size_t body_length(const char *head, size_t size) {
    const size_t name = sizeof LENGTH_NAME - 1;
    for (size_t at = 0; at + name < size; at++)
        if (head[at] == '\r' && strncasecmp(head + at, LENGTH_NAME, name) == 0)
            return strtoul(head + at + name, NULL, 10);
    return 0;
}

static int answer(int socket, const char *bytes, size_t size) {
    return write(socket, bytes, size) == (ssize_t)size;
}

static int answer_count(int socket) {
    char digits[32], text[128];
    int length = snprintf(digits, sizeof digits, "%llu", requests);
    int size = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", length, digits);
    return answer(socket, text, (size_t)size);
}

static int serve(int socket, const char *request) {
    if (strncmp(request, "GET /count ", 11) == 0)
        return answer_count(socket);
    if (strncmp(request, "PUT /down ", 10) == 0 || strncmp(request, "PUT /up ", 8) == 0) {
        is_down = request[5] == 'd';
        return answer(socket, ANSWER, sizeof ANSWER - 1);
    }
    if (is_down)
        return answer(socket, REFUSAL, sizeof REFUSAL - 1);
    if (strncmp(request, "GET ", 4) == 0)
        return answer(socket, ANSWER, sizeof ANSWER - 1);
    requests++;
    if (strncmp(request, "POST /hang", 10) == 0)
        return 1;
    if (strncmp(request, "POST /tenth", 11) == 0 && ++tenths % 10 == 0)
        return answer(socket, FAILURE, sizeof FAILURE - 1);
    return answer(socket, ANSWER, sizeof ANSWER - 1);
}

/* Serve every whole request that is buffered. */
static int serve_all(struct connection *peer) {
    size_t start = 0;
    while (start < peer->used) {
        char *request = peer->bytes + start;
        char *end = memmem(request, peer->used - start, "\r\n\r\n", 4);
        if (end == NULL)
            break;
        size_t head = (size_t)(end - request) + 4;
        size_t whole = head + body_length(request, head);
        if (whole > peer->used - start)
            break;
        if (!serve(peer->socket, request))
            return 0;
        start += whole;
    }
    peer->used -= start;
    memmove(peer->bytes, peer->bytes + start, peer->used);
    return 1;
}

static int make_room(struct connection *peer) {
    if (peer->used < peer->room)
        return 1;
    if (peer->room >= MOST_ROOM)
        return 0;
    peer->room *= 2;
    peer->bytes = realloc(peer->bytes, peer->room);
    return peer->bytes != NULL;
}

static int receive(struct connection *peer) {
    if (!make_room(peer))
        return 0;
    ssize_t got = read(peer->socket, peer->bytes + peer->used, peer->room - peer->used);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0)
        return 0;
    peer->used += (size_t)got;
    return serve_all(peer);
}

static void leave(struct connection *peer) {
    close(peer->socket);
    free(peer->bytes);
    free(peer);
}

static void admit(int poll, int socket) {
    int yes = 1;
    struct connection *peer = malloc(sizeof *peer);
    char *bytes = malloc(FIRST_ROOM);
    if (peer == NULL || bytes == NULL)
        fail("malloc");
    *peer = (struct connection){.socket = socket, .used = 0, .room = FIRST_ROOM, .bytes = bytes};
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, socket, &event) != 0)
        fail("epoll_ctl");
}

/* The wildcard is there for the loopback network only. */
static int is_local(const struct sockaddr_in *peer) {
    return ntohl(peer->sin_addr.s_addr) >> 24 == 127;
}

static void accept_all(int poll, int listening) {
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    int socket;
    while ((socket = accept4(listening, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK)) >= 0) {
        if (is_local(&peer))
            admit(poll, socket);
        else
            close(socket);
        size = sizeof peer;
    }
}

static int listen_anywhere(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    socklen_t size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (listening < 0 || bind(listening, (struct sockaddr *)&address, size) != 0 || listen(listening, 65535) != 0)
        fail("listen");
    if (getsockname(listening, (struct sockaddr *)&address, &size) != 0)
        fail("getsockname");
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    return listening;
}

static void allow_many_files(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail("setrlimit");
}

static void watch(int poll, int descriptor, void *mark) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = mark};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event) != 0)
        fail("epoll_ctl");
}

int main(void) {
    struct epoll_event events[EVENTS];
    char input, listener;
    allow_many_files();
    int poll = epoll_create1(0);
    int listening = listen_anywhere();
    watch(poll, listening, &listener);
    watch(poll, STDIN_FILENO, &input);
    for (;;) {
        int ready = epoll_wait(poll, events, EVENTS, -1);
        for (int index = 0; index < ready; index++) {
            void *mark = events[index].data.ptr;
            if (mark == &input)
                return 0;
            else if (mark == &listener)
                accept_all(poll, listening);
            else if (!receive(mark))
                leave(mark);
        }
    }
}
