// SPDX-License-Identifier: Apache-2.0
// weir.v1.Limiter/Allow on gRPC's own library, with one thread and a completion queue: what
// the transport costs.  It decides nothing: every answer is "allowed".
//
//	grpc_core ADDRESS
#include <cstdio>
#include <memory>

#include <grpcpp/grpcpp.h>

#include "weir/v1/limiter.grpc.pb.h"

using grpc::ServerAsyncResponseWriter;
using grpc::ServerCompletionQueue;
using grpc::ServerContext;
using weir::v1::AllowRequest;
using weir::v1::AllowResponse;
using weir::v1::Limiter;

namespace {

// A call: waits to come, is answered, is gone.
class Call {
public:
	Call(Limiter::AsyncService *service, ServerCompletionQueue *queue)
		: service_(service), queue_(queue), responder_(&context_)
	{
		service_->RequestAllow(&context_, &request_, &responder_, queue_, queue_, this);
	}

	void proceed(bool ok)
	{
		if (!ok || answered_) {
			delete this;
			return;
		}
		new Call(service_, queue_);
		auto *decision = response_.mutable_decision();
		decision->set_outcome(weir::v1::OUTCOME_ALLOWED);
		decision->set_limit(100000000);
		decision->set_remaining(99999999);
		decision->set_reset_after_ns(10);
		answered_ = true;
		responder_.Finish(response_, grpc::Status::OK, this);
	}

private:
	Limiter::AsyncService *service_;
	ServerCompletionQueue *queue_;
	ServerContext context_;
	AllowRequest request_;
	AllowResponse response_;
	ServerAsyncResponseWriter<AllowResponse> responder_;
	bool answered_ = false;
};

} // namespace

int main(int argc, char **argv)
{
	Limiter::AsyncService service;
	grpc::ServerBuilder builder;
	int port = 0;

	if (argc != 2) {
		std::fprintf(stderr, "usage: grpc_core ADDRESS\n");
		return 2;
	}
	builder.AddListeningPort(argv[1], grpc::InsecureServerCredentials(), &port);
	builder.RegisterService(&service);
	std::unique_ptr<ServerCompletionQueue> queue = builder.AddCompletionQueue();
	std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
	if (!server || port == 0) {
		std::fprintf(stderr, "cannot listen on %s\n", argv[1]);
		return 1;
	}
	for (int i = 0; i < 1000; i++)
		new Call(&service, queue.get());
	void *tag;
	bool ok;
	while (queue->Next(&tag, &ok))
		static_cast<Call *>(tag)->proceed(ok);
	return 0;
}
