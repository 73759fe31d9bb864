/* Plays the steps of cases.txt with the library in C: see play.py.
 *
 * Each line of standard input is an operation with its arguments, and is answered by a line. */
#include <pthread.h>
#include <ringpost.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MILLISECOND 1000000LL
#define LONG (30000 * MILLISECOND)

/* What a code is called in the table. */
static const char *word_of(ringpost_status status) {
    switch (status) {
    case RINGPOST_TIMED_OUT: return "timed-out";
    case RINGPOST_FULL: return "full";
    case RINGPOST_DISCONNECTED:
    case RINGPOST_NOT_SENT: return "disconnected";
    case RINGPOST_SHUTTING_DOWN: return "shutting-down";
    case RINGPOST_FORKED: return "forked";
    case RINGPOST_TOO_LARGE: return "too-large";
    case RINGPOST_INVALID_NAME: return "invalid-name";
    case RINGPOST_NAME_TAKEN: return "name-taken";
    case RINGPOST_NOT_FOUND: return "not-found";
    case RINGPOST_NOT_SERVING: return "not-serving";
    case RINGPOST_GONE: return "gone";
    case RINGPOST_NOT_ALLOWED: return "not-allowed";
    case RINGPOST_QUOTA: return "quota";
    case RINGPOST_REFUSED: return "refused";
    case RINGPOST_SERVICE_FAILED: return "service-failed";
    case RINGPOST_RESPONSE_TOO_LARGE: return "response-too-large";
    case RINGPOST_UNCONFIRMED: return "unconfirmed";
    case RINGPOST_NOTHING_OUTSTANDING: return "nothing-outstanding";
    case RINGPOST_NO_SERVER: return "no-server";
    case RINGPOST_VERSION: return "version";
    case RINGPOST_VIOLATION: return "violation";
    case RINGPOST_OVERRUN: return "overrun";
    case RINGPOST_EVICTED: return "evicted";
    case RINGPOST_IN_USE: return "in-use";
    case RINGPOST_INVALID_ARGUMENT: return "invalid-argument";
    default: return "other";
    }
}

/* ---- what a player has */

typedef struct accepted {
    pthread_t thread;
    ringpost_responder *responder;
    ringpost_closer *closer;
    struct accepted *next;
} accepted;

static ringpost_client *client;
static ringpost_closer *closer, *link_closer;
static ringpost_link *to_link;
static ringpost_listener *listener;
static ringpost_serving *serving;
static ringpost_publisher *publisher;
static ringpost_subscriber *subscriber;
static accepted *all_accepted;

static pthread_t started;
static bool is_started;

/* What the service of its links knows. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_opened = PTHREAD_COND_INITIALIZER;
static bool gate_open;
static atomic_uint posts;
static atomic_bool viewing;

static void set_gate(bool open) {
    pthread_mutex_lock(&gate);
    gate_open = open;
    pthread_cond_broadcast(&gate_opened);
    pthread_mutex_unlock(&gate);
}

static void wait_for_gate(void) {
    pthread_mutex_lock(&gate);
    while (!gate_open) pthread_cond_wait(&gate_opened, &gate);
    pthread_mutex_unlock(&gate);
}

/* ---- words */

static void *allocate(size_t len) {
    void *memory = malloc(len ? len : 1);
    if (!memory) abort();
    return memory;
}

/* An answer, which the caller frees. */
static char *answer(const char *format, ...) {
    va_list arguments;
    char *text;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0) abort();
    va_end(arguments);
    return text;
}

/* Bytes as a word, which the caller frees. */
static char *escaped(const void *data, size_t len) {
    if (len == 0) return answer("''");
    char *text = allocate(3 * len + 1), *to = text;
    for (const unsigned char *from = data, *end = from + len; from < end; from++) {
        bool plain = (*from >= '0' && *from <= '9') || (*from >= 'a' && *from <= 'z') ||
                     (*from >= 'A' && *from <= 'Z') || (*from && strchr("-_./:", *from));
        to += plain ? sprintf(to, "%c", *from) : sprintf(to, "%%%02X", *from);
    }
    return text;
}

typedef struct bytes {
    char *data;
    size_t len;
} bytes;

/* A word as bytes, which the caller frees, and a zero behind them. */
static bytes unescaped(const char *word) {
    bytes into = {allocate(strlen(word) + 1), 0};
    for (; *word && strcmp(word, "''") != 0; word++) {
        if (*word == '%') {
            char digits[] = {word[1], word[2], 0};
            into.data[into.len++] = (char)strtol(digits, NULL, 16);
            word += 2;
        } else {
            into.data[into.len++] = *word;
        }
    }
    into.data[into.len] = 0;
    return into;
}

static char *answer_with(const char *before, const void *data, size_t len) {
    char *text = escaped(data, len), *whole = answer("%s%s", before, text);
    free(text);
    return whole;
}

/* The answer for a code. `asked`: whether it is about something that may have been done. */
static char *result(ringpost_status status, bool asked) {
    if (status == RINGPOST_OK) return answer("ok");
    bool maybe = asked && ringpost_error_may_have_executed();
    if (status != RINGPOST_SERVICE_FAILED) return answer("error %s%s", word_of(status), maybe ? " maybe" : "");
    const char *why = ringpost_error_text();
    char *text = answer_with("error service-failed ", why, strlen(why));
    char *whole = answer("%s%s", text, maybe ? " maybe" : "");
    free(text);
    return whole;
}

static char *reply_or(ringpost_status status, const void *data, size_t len) {
    return status == RINGPOST_OK ? answer_with("reply ", data, len) : result(status, true);
}

static char *key_or(ringpost_status status, const ringpost_key *key) {
    char text[RINGPOST_KEY_TEXT_SIZE];
    if (status != RINGPOST_OK) return result(status, false);
    ringpost_key_text(key, &text);
    return answer("%s", text);
}

static char *peer_words(const char *before, const ringpost_peer *peer) {
    char *name = escaped(peer->name, strlen(peer->name)), *key = key_or(RINGPOST_OK, &peer->key);
    char *whole = answer("%s%s %s %u", before, name, key, peer->pid);
    free(name);
    free(key);
    return whole;
}

static char *sample_words(const ringpost_sample *sample, const void *payload) {
    char *topic = escaped(sample->topic, strlen(sample->topic));
    char *name = escaped(sample->publisher.name, strlen(sample->publisher.name));
    char *data = escaped(payload, sample->len);
    char *whole = answer("sample %s %s %llu %llu %s", topic, name, (unsigned long long)sample->sequence,
                         (unsigned long long)sample->missed, data);
    free(topic);
    free(name);
    free(data);
    return whole;
}

/* ---- the service of its links */

static int serve(void *context, const ringpost_request *request, ringpost_response *response) {
    (void)context;
    char *text = allocate(request->len + 1);
    memcpy(text, request->payload, request->len);
    text[request->len] = 0;
    char *rest = strchr(text, ' ');
    if (rest) *rest++ = 0;
    if (!strcmp(text, "post")) {
        posts++;
    } else if (!strcmp(text, "fail")) {
        ringpost_response_fail(response, rest ? rest : "");
    } else if (!strcmp(text, "big")) {
        static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        size_t len = strtoull(rest, NULL, 10);
        char *data = allocate(len);
        for (size_t at = 0; at < len; at++) data[at] = letters[(at + len) % 61];
        ringpost_response_write(response, data, len);
        free(data);
    } else if (!strcmp(text, "who")) {
        ringpost_response_write(response, request->peer.name, strlen(request->peer.name));
    } else if (!strcmp(text, "posts")) {
        char number[16];
        ringpost_response_write(response, number, (size_t)snprintf(number, sizeof number, "%u", posts));
    } else if (!strcmp(text, "wait")) {
        wait_for_gate();
        ringpost_response_write(response, "waited", 6);
    } else {
        ringpost_response_write(response, request->payload, request->len);
    }
    free(text);
    return 0;
}

static void *serve_accepted(void *context) {
    ringpost_responder_serve(((accepted *)context)->responder, serve, NULL, -1);
    return NULL;
}

/* Who connects. An accepted link is served on a thread until it has ended. */
static char *incoming(const char *why) {
    ringpost_incoming *who;
    ringpost_peer peer;
    ringpost_status status = ringpost_listener_accept(listener, LONG, &who);
    if (status != RINGPOST_OK) return result(status, false);
    ringpost_incoming_peer(who, &peer);
    if (why) {
        status = ringpost_incoming_refuse(who, why);
    } else {
        accepted *one = allocate(sizeof *one);
        status = ringpost_incoming_accept(who, false, &one->responder);
        if (status == RINGPOST_OK) status = ringpost_responder_closer(one->responder, &one->closer);
        if (status == RINGPOST_OK) {
            if (pthread_create(&one->thread, NULL, serve_accepted, one)) abort();
            one->next = all_accepted;
            all_accepted = one;
        }
    }
    return status == RINGPOST_OK ? peer_words("incoming ", &peer) : result(status, false);
}

/* ---- operations */

static void forget(void) {
    set_gate(true);
    if (closer) ringpost_closer_close(closer);
    if (link_closer) ringpost_closer_close(link_closer);
    if (is_started) {
        void *text;
        pthread_join(started, &text);
        free(text);
        is_started = false;
    }
    if (to_link) ringpost_link_free(to_link);
    if (publisher) ringpost_publisher_free(publisher);
    if (subscriber) ringpost_subscriber_free(subscriber);
    if (listener) ringpost_listener_free(listener);
    if (serving) ringpost_serving_stop(serving, LONG);
    while (all_accepted) {
        accepted *one = all_accepted;
        all_accepted = one->next;
        ringpost_closer_close(one->closer);
        pthread_join(one->thread, NULL);
        ringpost_responder_free(one->responder);
        ringpost_closer_free(one->closer);
        free(one);
    }
    if (client) ringpost_client_free(client);
    if (closer) ringpost_closer_free(closer);
    if (link_closer) ringpost_closer_free(link_closer);
    client = NULL, closer = link_closer = NULL, to_link = NULL, listener = NULL, serving = NULL;
    publisher = NULL, subscriber = NULL;
    posts = 0;
    viewing = false;
    set_gate(false);
}

typedef struct names {
    char *all[16];
    size_t count;
} names;

static int keep_name(void *context, const ringpost_client_info *info) {
    names *into = context;
    into->all[into->count++] = escaped(info->peer.name, strlen(info->peer.name));
    return into->count == sizeof into->all / sizeof *into->all;
}

static int compare(const void *one, const void *other) {
    return strcmp(*(char *const *)one, *(char *const *)other);
}

static char *list(void) {
    names found = {.count = 0};
    ringpost_status status = ringpost_client_list(client, LONG, keep_name, &found);
    if (status != RINGPOST_OK) return result(status, false);
    qsort(found.all, found.count, sizeof *found.all, compare);
    char *whole = answer("%s", "");
    for (size_t at = 0; at < found.count; at++) {
        char *longer = answer("%s%s%s", whole, at ? " " : "", found.all[at]);
        free(whole);
        free(found.all[at]);
        whole = longer;
    }
    return whole;
}

/* A step of a client; NULL if it is none. `word` are its arguments, `text` and `data` the first two as bytes. */
static char *client_step(const char *operation, char **word, bytes text, bytes data) {
    const void *reply = NULL;
    size_t len = 0, most = 0;
    ringpost_key key;
    ringpost_status status;
    int64_t first_time = word[0] ? atoll(word[0]) * MILLISECOND : LONG;
    int64_t second_time = word[0] && word[1] ? atoll(word[1]) * MILLISECOND : LONG;

    if (!strcmp(operation, "register")) {
        if (strlen(data.data) != data.len) return answer("inexpressible");
        status = ringpost_register(text.data, data.data, LONG, &client);
        if (status == RINGPOST_OK) status = ringpost_client_closer(client, &closer);
        return result(status, false);
    }
    if (!strcmp(operation, "unregister")) {
        status = ringpost_client_unregister(client, LONG);
        client = NULL;
        return result(status, false);
    }
    if (!strcmp(operation, "close")) return result(ringpost_closer_close(closer), false);
    if (!strcmp(operation, "key")) {
        status = ringpost_client_key(client, &key);
        return key_or(status, &key);
    }
    if (!strcmp(operation, "limits")) {
        status = ringpost_client_limits(client, &len, &most);
        return status == RINGPOST_OK ? answer("%zu %zu", len, most) : result(status, false);
    }
    if (!strcmp(operation, "ping")) return result(ringpost_client_ping(client, LONG), false);
    if (!strcmp(operation, "list")) return list();
    if (!strcmp(operation, "look-up")) {
        status = ringpost_client_look_up(client, text.data, LONG, &key);
        return status == RINGPOST_NOT_FOUND ? answer("none") : key_or(status, &key);
    }
    if (!strcmp(operation, "wait-for")) {
        status = ringpost_client_wait_for(client, text.data, second_time, &key);
        return key_or(status, &key);
    }
    if (!strcmp(operation, "call")) {
        status = ringpost_client_call(client, text.data, text.len, second_time, &reply, &len);
        return reply_or(status, reply, len);
    }
    if (!strcmp(operation, "submit")) return result(ringpost_client_submit(client, text.data, text.len), true);
    if (!strcmp(operation, "response")) {
        status = ringpost_client_response(client, first_time, &reply, &len);
        return reply_or(status, reply, len);
    }
    if (!strcmp(operation, "outstanding")) {
        status = ringpost_client_outstanding(client, &len);
        return status == RINGPOST_OK ? answer("%zu", len) : result(status, false);
    }
    if (!strcmp(operation, "send")) {
        int64_t time = word[1] && word[2] ? atoll(word[2]) * MILLISECOND : LONG;
        return result(ringpost_client_send(client, text.data, data.data, data.len, time), true);
    }
    if (!strcmp(operation, "recv")) {
        ringpost_message message;
        status = ringpost_client_recv(client, first_time, &message);
        if (status != RINGPOST_OK) return result(status, false);
        char *name = escaped(message.sender_name, strlen(message.sender_name));
        char *from = key_or(RINGPOST_OK, &message.sender), *payload = escaped(message.payload, message.len);
        char *whole = answer("message %s %s %s", name, from, payload);
        free(name);
        free(from);
        free(payload);
        return whole;
    }
    return NULL;
}

/* A step of a link or a listener; NULL if it is none. */
static char *link_step(const char *operation, char **word, bytes text) {
    const void *reply = NULL;
    size_t len = 0;
    ringpost_status status;
    int64_t first_time = word[0] ? atoll(word[0]) * MILLISECOND : LONG;
    int64_t second_time = word[0] && word[1] ? atoll(word[1]) * MILLISECOND : LONG;

    if (!strcmp(operation, "listen")) return result(ringpost_listen(client, LONG, &listener), false);
    if (!strcmp(operation, "accept")) return incoming(NULL);
    if (!strcmp(operation, "refuse")) return incoming(text.data);
    if (!strcmp(operation, "stop-listening")) {
        status = ringpost_listener_free(listener);
        listener = NULL;
        return result(status, false);
    }
    if (!strcmp(operation, "serve")) {
        ringpost_listener *taken;
        status = ringpost_listen(client, LONG, &taken);
        if (status == RINGPOST_OK) status = ringpost_listener_serve(taken, serve, NULL, NULL, &serving);
        return result(status, false);
    }
    if (!strcmp(operation, "stop-serving")) {
        status = ringpost_serving_stop(serving, LONG);
        serving = NULL;
        return result(status, false);
    }
    if (!strcmp(operation, "open")) return set_gate(true), answer("ok");
    if (!strcmp(operation, "link")) {
        if (link_closer) ringpost_closer_free(link_closer);
        if (to_link) ringpost_link_free(to_link);
        link_closer = NULL, to_link = NULL;
        status = ringpost_connect(client, text.data, false, second_time, &to_link);
        if (status == RINGPOST_OK) status = ringpost_link_closer(to_link, &link_closer);
        return result(status, false);
    }
    if (!strcmp(operation, "link-peer")) {
        ringpost_peer peer;
        status = ringpost_link_peer(to_link, &peer);
        return status == RINGPOST_OK ? peer_words("", &peer) : result(status, false);
    }
    if (!strcmp(operation, "link-call")) {
        status = ringpost_link_call(to_link, text.data, text.len, second_time, &reply, &len);
        return reply_or(status, reply, len);
    }
    if (!strcmp(operation, "link-submit")) return result(ringpost_link_submit(to_link, text.data, text.len), true);
    if (!strcmp(operation, "link-response")) {
        status = ringpost_link_response(to_link, first_time, &reply, &len);
        return reply_or(status, reply, len);
    }
    if (!strcmp(operation, "link-post")) return result(ringpost_link_post(to_link, text.data, text.len), true);
    if (!strcmp(operation, "link-close")) return result(ringpost_closer_close(link_closer), false);
    if (!strcmp(operation, "link-drop")) {
        status = ringpost_link_free(to_link);
        to_link = NULL;
        return result(status, false);
    }
    return NULL;
}

/* A step with a view of a sample. With `late` it is checked only when the gate is open. */
static char *view_step(bool late) {
    ringpost_sample sample;
    ringpost_status status = ringpost_subscriber_view(subscriber, LONG, &sample);
    if (status != RINGPOST_OK) return result(status, false);
    char *copy = allocate(sample.len);
    memcpy(copy, sample.payload, sample.len);
    if (late) {
        viewing = true;
        wait_for_gate();
    }
    status = ringpost_subscriber_check(subscriber);
    ringpost_status released = ringpost_subscriber_release(subscriber);
    char *text = status == released && status == RINGPOST_OK ? sample_words(&sample, copy)
                                                             : result(status ? status : released, false);
    free(copy);
    return text;
}

/* A step of a topic; NULL if it is none. */
static char *topic_step(const char *operation, char **word, bytes text, bytes data) {
    size_t len = 0, count = 0;
    ringpost_status status;
    int64_t first_time = word[0] ? atoll(word[0]) * MILLISECOND : LONG;
    int64_t second_time = word[0] && word[1] ? atoll(word[1]) * MILLISECOND : LONG;

    if (!strcmp(operation, "publish")) {
        int64_t reliable = atoll(word[2]) ? atoll(word[2]) * MILLISECOND : -1;
        size_t ring_size = (size_t)atoll(word[1]);
        return result(ringpost_publish(client, text.data, ring_size, reliable, false, LONG, &publisher), false);
    }
    if (!strcmp(operation, "publish-sample"))
        return result(ringpost_publisher_send(publisher, text.data, text.len, second_time), false);
    if (!strcmp(operation, "grant-sample") || !strcmp(operation, "abandon-sample")) {
        void *place;
        status = ringpost_publisher_grant(publisher, (size_t)atoll(word[0]), LONG, &place);
        if (status != RINGPOST_OK) return result(status, false);
        memcpy(place, data.data, data.len);
        return result(operation[0] == 'g' ? ringpost_publisher_commit(publisher, data.len)
                                          : ringpost_publisher_abandon(publisher), false);
    }
    if (!strcmp(operation, "max-sample") || !strcmp(operation, "subscribers")) {
        status = ringpost_publisher_limits(publisher, &len, &count);
        if (status != RINGPOST_OK) return result(status, false);
        return answer("%zu", operation[0] == 'm' ? len : count);
    }
    if (!strcmp(operation, "stop-publishing")) {
        status = ringpost_publisher_free(publisher);
        publisher = NULL;
        return result(status, false);
    }
    if (!strcmp(operation, "subscribe")) {
        int policy = !strcmp(word[1], "latest")     ? RINGPOST_LATEST
                     : !strcmp(word[1], "reliable") ? RINGPOST_RELIABLE
                                                    : RINGPOST_LOSSY;
        uint64_t history = strtoull(word[2], NULL, 10);
        return result(ringpost_subscribe(client, text.data, policy, history, false, LONG, &subscriber), false);
    }
    if (!strcmp(operation, "sample")) {
        ringpost_sample sample;
        status = ringpost_subscriber_recv(subscriber, first_time, &sample);
        return status == RINGPOST_OK ? sample_words(&sample, sample.payload) : result(status, false);
    }
    if (!strcmp(operation, "view-sample")) return view_step(false);
    if (!strcmp(operation, "late-sample")) return view_step(true);
    if (!strcmp(operation, "viewing-sample")) return answer(viewing ? "true" : "false");
    if (!strcmp(operation, "stop-subscribing")) {
        status = ringpost_subscriber_free(subscriber);
        subscriber = NULL;
        return result(status, false);
    }
    return NULL;
}

static char *step(char *line);

static void *step_of_thread(void *line) {
    char *text = step(line);
    free(line);
    return text;
}

/* The answer of a forked child, which then ends. */
static char *forked(char *line) {
    int ends[2];
    if (pipe(ends)) abort();
    pid_t child = fork();
    if (child == 0) {
        char *text = step(line);
        _exit(write(ends[1], text, strlen(text)) < 0);
    }
    close(ends[1]);
    char text[256];
    ssize_t len = read(ends[0], text, sizeof text - 1);
    text[len > 0 ? len : 0] = 0;
    close(ends[0]);
    waitpid(child, NULL, 0);
    return answer("%s", text);
}

static char *step(char *line) {
    char *operation = line, *rest = strchr(line, ' ');
    if (rest) *rest++ = 0;
    if (!strcmp(operation, "start")) {
        if (pthread_create(&started, NULL, step_of_thread, answer("%s", rest))) abort();
        is_started = true;
        return answer("started");
    }
    if (!strcmp(operation, "finish")) {
        void *text;
        pthread_join(started, &text);
        is_started = false;
        return text;
    }
    if (!strcmp(operation, "forked")) return forked(rest);
    if (!strcmp(operation, "reset")) return forget(), answer("ok");

    char *word[5] = {NULL};
    for (int at = 0; rest && at < 4; at++) {
        word[at] = rest;
        rest = strchr(rest, ' ');
        if (rest) *rest++ = 0;
    }
    bytes text = unescaped(word[0] ? word[0] : ""), data = unescaped(word[0] && word[1] ? word[1] : "");
    char *came = client_step(operation, word, text, data);
    if (!came) came = link_step(operation, word, text);
    if (!came) came = topic_step(operation, word, text, data);
    if (!came) {
        fprintf(stderr, "no operation %s\n", operation);
        exit(2);
    }
    free(text.data);
    free(data.data);
    return came;
}

int main(void) {
    char *line = NULL;
    size_t room = 0;
    ssize_t len;
    while ((len = getline(&line, &room, stdin)) > 0) {
        line[len - 1] = 0;
        char *text = step(line);
        printf("%s\n", text);
        fflush(stdout);
        free(text);
    }
    forget();
    free(line);
    return 0;
}
