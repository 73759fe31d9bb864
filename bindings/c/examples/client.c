/* A client: registers a name, gets a key, calls the server, sends itself a message by its key, and unregisters.
 *
 *     client SOCKET NAME */
#include "common.h"

#include <string.h>

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s SOCKET NAME\n", argv[0]);
        return 2;
    }
    ringpost_client *client;
    need(ringpost_register(argv[1], argv[2], LIMIT, &client), "register");

    ringpost_key key;
    char key_text[RINGPOST_KEY_TEXT_SIZE];
    need(ringpost_client_look_up(client, argv[2], LIMIT, &key), "look up");
    need(ringpost_key_text(&key, &key_text), "key");
    printf("%s has the key %s\n", argv[2], key_text);

    const void *reply;
    size_t len;
    need(ringpost_client_call(client, "hello", 5, LIMIT, &reply, &len), "call");
    printf("the server says %.*s\n", (int)len, (const char *)reply);

    const char *text = "a note to myself";
    need(ringpost_client_send_to_key(client, &key, text, strlen(text), LIMIT), "send");
    ringpost_message message;
    need(ringpost_client_recv(client, LIMIT, &message), "receive");
    printf("%s sent: %.*s\n", message.sender_name, (int)message.len, (const char *)message.payload);

    need(ringpost_client_unregister(client, LIMIT), "unregister");
    return 0;
}
