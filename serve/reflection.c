/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/reflection.h"

#include <stdio.h>

#include "serve/arena.h"
#include "serve/descriptors.h"

#include "grpc/reflection/v1/reflection.pb-c.h"

/* A client that asks on and reads nothing gets no more than this. */
#define UNSENT_MAX_BYTES (1u << 20)

#define ASKED(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define ANSWERED(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name

typedef Grpc__Reflection__V1__ServerReflectionRequest request_message;
typedef Grpc__Reflection__V1__ServerReflectionResponse response_message;

static void answer_error(struct grpc_call *call, response_message *answer, enum grpc_status code,
			 const char *sentence)
{
	Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;

	error.error_code = (int32_t)code;
	error.error_message = (char *)sentence;
	answer->message_response_case = ANSWERED(ERROR_RESPONSE);
	answer->error_response = &error;
	grpc_send(call, &answer->base);
}

static void answer_not_found(struct grpc_call *call, response_message *answer, const char *what,
			     const char *name)
{
	char sentence[256];

	snprintf(sentence, sizeof(sentence), "no %s \"%.150s\" here; list the services first", what,
		 name);
	answer_error(call, answer, GRPC_NOT_FOUND, sentence);
}

static void answer_files(struct grpc_call *call, response_message *answer,
			 struct descriptor_file file)
{
	Grpc__Reflection__V1__FileDescriptorResponse told =
		GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
	struct descriptor_file files[DESCRIPTOR_FILES_MAX];
	ProtobufCBinaryData bytes[DESCRIPTOR_FILES_MAX];

	told.n_file_descriptor_proto = descriptor_files(file, files);
	told.file_descriptor_proto = bytes;
	for (size_t i = 0; i < told.n_file_descriptor_proto; i++)
		bytes[i] = (ProtobufCBinaryData){ files[i].length, (uint8_t *)files[i].bytes };
	answer->message_response_case = ANSWERED(FILE_DESCRIPTOR_RESPONSE);
	answer->file_descriptor_response = &told;
	grpc_send(call, &answer->base);
}

/* Nothing here can be extended. */
static void answer_extensions(struct grpc_call *call, response_message *answer, const char *type)
{
	Grpc__Reflection__V1__ExtensionNumberResponse told =
		GRPC__REFLECTION__V1__EXTENSION_NUMBER_RESPONSE__INIT;
	struct descriptor_file file;

	if (!descriptor_file_of(type, &file)) {
		answer_not_found(call, answer, "type", type);
		return;
	}
	told.base_type_name = (char *)type;
	answer->message_response_case = ANSWERED(ALL_EXTENSION_NUMBERS_RESPONSE);
	answer->all_extension_numbers_response = &told;
	grpc_send(call, &answer->base);
}

static void answer_services(struct grpc_call *call, response_message *answer)
{
	Grpc__Reflection__V1__ListServiceResponse told =
		GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
	Grpc__Reflection__V1__ServiceResponse *services;
	struct arena *arena = grpc_arena(call);

	services = arena_alloc(arena, grpc_service_count * sizeof(*services));
	told.service = arena_alloc(arena, grpc_service_count * sizeof(*told.service));
	if (!services || !told.service) {
		grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "no memory for the list of services");
		return;
	}
	told.n_service = grpc_service_count;
	for (size_t i = 0; i < grpc_service_count; i++) {
		grpc__reflection__v1__service_response__init(&services[i]);
		services[i].name = (char *)grpc_services[i]->name;
		told.service[i] = &services[i];
	}
	answer->message_response_case = ANSWERED(LIST_SERVICES_RESPONSE);
	answer->list_services_response = &told;
	grpc_send(call, &answer->base);
}

static void ask(struct grpc_call *call, const void *message)
{
	const request_message *asked = message;
	response_message answer = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
	struct descriptor_file file;

	if (grpc_unsent(call) > UNSENT_MAX_BYTES) {
		grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "%zu bytes of answers were not read; read "
			  "them before you ask on", grpc_unsent(call));
		return;
	}
	answer.valid_host = asked->host;
	answer.original_request = (request_message *)asked;
	switch (asked->message_request_case) {
	case ASKED(FILE_BY_FILENAME):
		if (descriptor_file_named(asked->file_by_filename, &file))
			answer_files(call, &answer, file);
		else
			answer_not_found(call, &answer, "file", asked->file_by_filename);
		break;
	case ASKED(FILE_CONTAINING_SYMBOL):
		if (descriptor_file_of(asked->file_containing_symbol, &file))
			answer_files(call, &answer, file);
		else
			answer_not_found(call, &answer, "symbol", asked->file_containing_symbol);
		break;
	case ASKED(FILE_CONTAINING_EXTENSION):
		answer_not_found(call, &answer, "extension of",
				 asked->file_containing_extension->containing_type);
		break;
	case ASKED(ALL_EXTENSION_NUMBERS_OF_TYPE):
		answer_extensions(call, &answer, asked->all_extension_numbers_of_type);
		break;
	case ASKED(LIST_SERVICES):
		answer_services(call, &answer);
		break;
	default:
		answer_error(call, &answer, GRPC_INVALID_ARGUMENT, "the request asks for nothing; "
			     "list the services, or ask for a file or a symbol");
	}
}

static void drain(struct grpc_call *call)
{
	grpc_fail(call, GRPC_UNAVAILABLE, "the service is about to end; ask another one");
}

/* The messages of the two have the same fields. */
static const struct grpc_method methods[] = {
	{ "ServerReflectionInfo", &grpc__reflection__v1__server_reflection_request__descriptor, ask,
	  .client_streams = true, .half_closed = grpc_finish, .drain = drain },
};

const struct grpc_service reflection_service = {
	"grpc.reflection.v1.ServerReflection", methods, 1,
};

const struct grpc_service reflection_alpha_service = {
	"grpc.reflection.v1alpha.ServerReflection", methods, 1,
};
