import { decodeMessage, encodeMessage, MaxLengthError, message, streamMessage } from 'protons-runtime';
import { alloc as uint8ArrayAlloc } from 'uint8arrays/alloc';
export var ReplicaPayload;
(function (ReplicaPayload) {
    let _codec;
    ReplicaPayload.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.image != null && obj.image.byteLength > 0)) {
                    w.uint32(10);
                    w.bytes(obj.image);
                }
                if ((obj.peer != null && obj.peer !== '')) {
                    w.uint32(18);
                    w.string(obj.peer);
                }
                if (obj.addresses != null && obj.addresses.length > 0) {
                    for (const value of obj.addresses) {
                        w.uint32(26);
                        w.string(value);
                    }
                }
                if ((obj.complete != null && obj.complete !== false)) {
                    w.uint32(32);
                    w.bool(obj.complete);
                }
                if ((obj.sequence != null && obj.sequence !== 0)) {
                    w.uint32(40);
                    w.uint64Number(obj.sequence);
                }
                if ((obj.expiresMs != null && obj.expiresMs !== 0)) {
                    w.uint32(48);
                    w.uint64Number(obj.expiresMs);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    image: uint8ArrayAlloc(0),
                    peer: '',
                    addresses: [],
                    complete: false,
                    sequence: 0,
                    expiresMs: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.image = reader.bytes();
                            break;
                        }
                        case 2: {
                            obj.peer = reader.string();
                            break;
                        }
                        case 3: {
                            if (opts.limits?.addresses != null && obj.addresses.length === opts.limits.addresses) {
                                throw new MaxLengthError('Decode error - repeated field "addresses" had too many elements');
                            }
                            obj.addresses.push(reader.string());
                            break;
                        }
                        case 4: {
                            obj.complete = reader.bool();
                            break;
                        }
                        case 5: {
                            obj.sequence = reader.uint64Number();
                            break;
                        }
                        case 6: {
                            obj.expiresMs = reader.uint64Number();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const obj = {
                    addresses: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.image`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.peer`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 3: {
                            if (opts.limits?.addresses != null && obj.addresses === opts.limits.addresses) {
                                throw new MaxLengthError('Streaming decode error - repeated field "addresses" had too many elements');
                            }
                            yield {
                                field: `${prefix}.addresses[]`,
                                index: obj.addresses,
                                value: reader.string()
                            };
                            obj.addresses++;
                            break;
                        }
                        case 4: {
                            yield {
                                field: `${prefix}.complete`,
                                value: reader.bool()
                            };
                            break;
                        }
                        case 5: {
                            yield {
                                field: `${prefix}.sequence`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 6: {
                            yield {
                                field: `${prefix}.expiresMs`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, ReplicaPayload.codec());
    }
    ReplicaPayload.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, ReplicaPayload.codec(), opts);
    }
    ReplicaPayload.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, ReplicaPayload.codec(), opts);
    }
    ReplicaPayload.stream = stream;
})(ReplicaPayload || (ReplicaPayload = {}));
export var LeasePayload;
(function (LeasePayload) {
    let _codec;
    LeasePayload.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.release != null && obj.release !== '')) {
                    w.uint32(10);
                    w.string(obj.release);
                }
                if ((obj.sequence != null && obj.sequence !== 0)) {
                    w.uint32(16);
                    w.uint64Number(obj.sequence);
                }
                if ((obj.issuedMs != null && obj.issuedMs !== 0)) {
                    w.uint32(24);
                    w.uint64Number(obj.issuedMs);
                }
                if ((obj.runningUntilMs != null && obj.runningUntilMs !== 0)) {
                    w.uint32(32);
                    w.uint64Number(obj.runningUntilMs);
                }
                if ((obj.keepUntilMs != null && obj.keepUntilMs !== 0)) {
                    w.uint32(40);
                    w.uint64Number(obj.keepUntilMs);
                }
                if ((obj.givenBack != null && obj.givenBack !== false)) {
                    w.uint32(48);
                    w.bool(obj.givenBack);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    release: '',
                    sequence: 0,
                    issuedMs: 0,
                    runningUntilMs: 0,
                    keepUntilMs: 0,
                    givenBack: false
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.release = reader.string();
                            break;
                        }
                        case 2: {
                            obj.sequence = reader.uint64Number();
                            break;
                        }
                        case 3: {
                            obj.issuedMs = reader.uint64Number();
                            break;
                        }
                        case 4: {
                            obj.runningUntilMs = reader.uint64Number();
                            break;
                        }
                        case 5: {
                            obj.keepUntilMs = reader.uint64Number();
                            break;
                        }
                        case 6: {
                            obj.givenBack = reader.bool();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.release`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.sequence`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.issuedMs`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 4: {
                            yield {
                                field: `${prefix}.runningUntilMs`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 5: {
                            yield {
                                field: `${prefix}.keepUntilMs`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 6: {
                            yield {
                                field: `${prefix}.givenBack`,
                                value: reader.bool()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, LeasePayload.codec());
    }
    LeasePayload.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, LeasePayload.codec(), opts);
    }
    LeasePayload.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, LeasePayload.codec(), opts);
    }
    LeasePayload.stream = stream;
})(LeasePayload || (LeasePayload = {}));
export var DirectoryRequest;
(function (DirectoryRequest) {
    let _codec;
    DirectoryRequest.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if (obj.puts != null && obj.puts.length > 0) {
                    for (const value of obj.puts) {
                        w.uint32(10);
                        PutRecord.codec().encode(value, w);
                    }
                }
                if (obj.latest != null) {
                    w.uint32(18);
                    LatestQuery.codec().encode(obj.latest, w);
                }
                if (obj.replicas != null) {
                    w.uint32(26);
                    ReplicasQuery.codec().encode(obj.replicas, w);
                }
                if (obj.sharers != null) {
                    w.uint32(34);
                    SharersQuery.codec().encode(obj.sharers, w);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    puts: []
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.puts != null && obj.puts.length === opts.limits.puts) {
                                throw new MaxLengthError('Decode error - repeated field "puts" had too many elements');
                            }
                            obj.puts.push(PutRecord.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.puts$
                            }));
                            break;
                        }
                        case 2: {
                            obj.latest = LatestQuery.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.latest
                            });
                            break;
                        }
                        case 3: {
                            obj.replicas = ReplicasQuery.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.replicas
                            });
                            break;
                        }
                        case 4: {
                            obj.sharers = SharersQuery.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.sharers
                            });
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const obj = {
                    puts: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.puts != null && obj.puts === opts.limits.puts) {
                                throw new MaxLengthError('Streaming decode error - repeated field "puts" had too many elements');
                            }
                            for (const evt of PutRecord.codec().stream(reader, reader.uint32(), `${prefix}.puts[]`, {
                                limits: opts.limits?.puts$
                            })) {
                                yield {
                                    ...evt,
                                    index: obj.puts
                                };
                            }
                            obj.puts++;
                            break;
                        }
                        case 2: {
                            yield* LatestQuery.codec().stream(reader, reader.uint32(), `${prefix}.latest`, {
                                limits: opts.limits?.latest
                            });
                            break;
                        }
                        case 3: {
                            yield* ReplicasQuery.codec().stream(reader, reader.uint32(), `${prefix}.replicas`, {
                                limits: opts.limits?.replicas
                            });
                            break;
                        }
                        case 4: {
                            yield* SharersQuery.codec().stream(reader, reader.uint32(), `${prefix}.sharers`, {
                                limits: opts.limits?.sharers
                            });
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, DirectoryRequest.codec());
    }
    DirectoryRequest.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, DirectoryRequest.codec(), opts);
    }
    DirectoryRequest.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, DirectoryRequest.codec(), opts);
    }
    DirectoryRequest.stream = stream;
})(DirectoryRequest || (DirectoryRequest = {}));
export var PutRecord;
(function (PutRecord) {
    let _codec;
    PutRecord.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.table != null && obj.table !== 0)) {
                    w.uint32(8);
                    w.uint32(obj.table);
                }
                if ((obj.record != null && obj.record.byteLength > 0)) {
                    w.uint32(18);
                    w.bytes(obj.record);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    table: 0,
                    record: uint8ArrayAlloc(0)
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.table = reader.uint32();
                            break;
                        }
                        case 2: {
                            obj.record = reader.bytes();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.table`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.record`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, PutRecord.codec());
    }
    PutRecord.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, PutRecord.codec(), opts);
    }
    PutRecord.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, PutRecord.codec(), opts);
    }
    PutRecord.stream = stream;
})(PutRecord || (PutRecord = {}));
export var LatestQuery;
(function (LatestQuery) {
    let _codec;
    LatestQuery.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.appliance != null && obj.appliance !== '')) {
                    w.uint32(10);
                    w.string(obj.appliance);
                }
                if ((obj.knownDigest != null && obj.knownDigest.byteLength > 0)) {
                    w.uint32(18);
                    w.bytes(obj.knownDigest);
                }
                if ((obj.second != null && obj.second !== false)) {
                    w.uint32(24);
                    w.bool(obj.second);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    appliance: '',
                    knownDigest: uint8ArrayAlloc(0),
                    second: false
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.appliance = reader.string();
                            break;
                        }
                        case 2: {
                            obj.knownDigest = reader.bytes();
                            break;
                        }
                        case 3: {
                            obj.second = reader.bool();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.appliance`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.knownDigest`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.second`,
                                value: reader.bool()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, LatestQuery.codec());
    }
    LatestQuery.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, LatestQuery.codec(), opts);
    }
    LatestQuery.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, LatestQuery.codec(), opts);
    }
    LatestQuery.stream = stream;
})(LatestQuery || (LatestQuery = {}));
export var ReplicasQuery;
(function (ReplicasQuery) {
    let _codec;
    ReplicasQuery.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.image != null && obj.image.byteLength > 0)) {
                    w.uint32(10);
                    w.bytes(obj.image);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    image: uint8ArrayAlloc(0)
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.image = reader.bytes();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.image`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, ReplicasQuery.codec());
    }
    ReplicasQuery.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, ReplicasQuery.codec(), opts);
    }
    ReplicasQuery.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, ReplicasQuery.codec(), opts);
    }
    ReplicasQuery.stream = stream;
})(ReplicasQuery || (ReplicasQuery = {}));
export var SharersQuery;
(function (SharersQuery) {
    let _codec;
    SharersQuery.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.release != null && obj.release !== '')) {
                    w.uint32(10);
                    w.string(obj.release);
                }
                if ((obj.hashes != null && obj.hashes !== false)) {
                    w.uint32(16);
                    w.bool(obj.hashes);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    release: '',
                    hashes: false
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.release = reader.string();
                            break;
                        }
                        case 2: {
                            obj.hashes = reader.bool();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.release`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.hashes`,
                                value: reader.bool()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, SharersQuery.codec());
    }
    SharersQuery.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, SharersQuery.codec(), opts);
    }
    SharersQuery.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, SharersQuery.codec(), opts);
    }
    SharersQuery.stream = stream;
})(SharersQuery || (SharersQuery = {}));
export var DirectoryResponse;
(function (DirectoryResponse) {
    let _codec;
    DirectoryResponse.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.status != null && obj.status !== 0)) {
                    w.uint32(8);
                    w.uint32(obj.status);
                }
                if (obj.outcomes != null && obj.outcomes.length > 0) {
                    for (const value of obj.outcomes) {
                        w.uint32(18);
                        w.string(value);
                    }
                }
                if (obj.latest != null) {
                    w.uint32(26);
                    LatestAnswer.codec().encode(obj.latest, w);
                }
                if (obj.replicas != null) {
                    w.uint32(34);
                    ReplicasAnswer.codec().encode(obj.replicas, w);
                }
                if (obj.sharers != null) {
                    w.uint32(42);
                    SharersAnswer.codec().encode(obj.sharers, w);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    status: 0,
                    outcomes: []
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.status = reader.uint32();
                            break;
                        }
                        case 2: {
                            if (opts.limits?.outcomes != null && obj.outcomes.length === opts.limits.outcomes) {
                                throw new MaxLengthError('Decode error - repeated field "outcomes" had too many elements');
                            }
                            obj.outcomes.push(reader.string());
                            break;
                        }
                        case 3: {
                            obj.latest = LatestAnswer.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.latest
                            });
                            break;
                        }
                        case 4: {
                            obj.replicas = ReplicasAnswer.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.replicas
                            });
                            break;
                        }
                        case 5: {
                            obj.sharers = SharersAnswer.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.sharers
                            });
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const obj = {
                    outcomes: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.status`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        case 2: {
                            if (opts.limits?.outcomes != null && obj.outcomes === opts.limits.outcomes) {
                                throw new MaxLengthError('Streaming decode error - repeated field "outcomes" had too many elements');
                            }
                            yield {
                                field: `${prefix}.outcomes[]`,
                                index: obj.outcomes,
                                value: reader.string()
                            };
                            obj.outcomes++;
                            break;
                        }
                        case 3: {
                            yield* LatestAnswer.codec().stream(reader, reader.uint32(), `${prefix}.latest`, {
                                limits: opts.limits?.latest
                            });
                            break;
                        }
                        case 4: {
                            yield* ReplicasAnswer.codec().stream(reader, reader.uint32(), `${prefix}.replicas`, {
                                limits: opts.limits?.replicas
                            });
                            break;
                        }
                        case 5: {
                            yield* SharersAnswer.codec().stream(reader, reader.uint32(), `${prefix}.sharers`, {
                                limits: opts.limits?.sharers
                            });
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, DirectoryResponse.codec());
    }
    DirectoryResponse.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, DirectoryResponse.codec(), opts);
    }
    DirectoryResponse.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, DirectoryResponse.codec(), opts);
    }
    DirectoryResponse.stream = stream;
})(DirectoryResponse || (DirectoryResponse = {}));
export var LatestAnswer;
(function (LatestAnswer) {
    let _codec;
    LatestAnswer.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.record != null && obj.record.byteLength > 0)) {
                    w.uint32(10);
                    w.bytes(obj.record);
                }
                if ((obj.same != null && obj.same !== false)) {
                    w.uint32(16);
                    w.bool(obj.same);
                }
                if ((obj.conflict != null && obj.conflict !== false)) {
                    w.uint32(24);
                    w.bool(obj.conflict);
                }
                if (obj.replicas != null && obj.replicas.length > 0) {
                    for (const value of obj.replicas) {
                        w.uint32(34);
                        ReplicaFound.codec().encode(value, w);
                    }
                }
                if ((obj.heldSinceMs != null && obj.heldSinceMs !== 0)) {
                    w.uint32(40);
                    w.uint64Number(obj.heldSinceMs);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    record: uint8ArrayAlloc(0),
                    same: false,
                    conflict: false,
                    replicas: [],
                    heldSinceMs: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.record = reader.bytes();
                            break;
                        }
                        case 2: {
                            obj.same = reader.bool();
                            break;
                        }
                        case 3: {
                            obj.conflict = reader.bool();
                            break;
                        }
                        case 4: {
                            if (opts.limits?.replicas != null && obj.replicas.length === opts.limits.replicas) {
                                throw new MaxLengthError('Decode error - repeated field "replicas" had too many elements');
                            }
                            obj.replicas.push(ReplicaFound.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.replicas$
                            }));
                            break;
                        }
                        case 5: {
                            obj.heldSinceMs = reader.uint64Number();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const obj = {
                    replicas: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.record`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.same`,
                                value: reader.bool()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.conflict`,
                                value: reader.bool()
                            };
                            break;
                        }
                        case 4: {
                            if (opts.limits?.replicas != null && obj.replicas === opts.limits.replicas) {
                                throw new MaxLengthError('Streaming decode error - repeated field "replicas" had too many elements');
                            }
                            for (const evt of ReplicaFound.codec().stream(reader, reader.uint32(), `${prefix}.replicas[]`, {
                                limits: opts.limits?.replicas$
                            })) {
                                yield {
                                    ...evt,
                                    index: obj.replicas
                                };
                            }
                            obj.replicas++;
                            break;
                        }
                        case 5: {
                            yield {
                                field: `${prefix}.heldSinceMs`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, LatestAnswer.codec());
    }
    LatestAnswer.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, LatestAnswer.codec(), opts);
    }
    LatestAnswer.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, LatestAnswer.codec(), opts);
    }
    LatestAnswer.stream = stream;
})(LatestAnswer || (LatestAnswer = {}));
export var ReplicasAnswer;
(function (ReplicasAnswer) {
    let _codec;
    ReplicasAnswer.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if (obj.replicas != null && obj.replicas.length > 0) {
                    for (const value of obj.replicas) {
                        w.uint32(10);
                        ReplicaFound.codec().encode(value, w);
                    }
                }
                if ((obj.heldSinceMs != null && obj.heldSinceMs !== 0)) {
                    w.uint32(16);
                    w.uint64Number(obj.heldSinceMs);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    replicas: [],
                    heldSinceMs: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.replicas != null && obj.replicas.length === opts.limits.replicas) {
                                throw new MaxLengthError('Decode error - repeated field "replicas" had too many elements');
                            }
                            obj.replicas.push(ReplicaFound.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.replicas$
                            }));
                            break;
                        }
                        case 2: {
                            obj.heldSinceMs = reader.uint64Number();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const obj = {
                    replicas: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.replicas != null && obj.replicas === opts.limits.replicas) {
                                throw new MaxLengthError('Streaming decode error - repeated field "replicas" had too many elements');
                            }
                            for (const evt of ReplicaFound.codec().stream(reader, reader.uint32(), `${prefix}.replicas[]`, {
                                limits: opts.limits?.replicas$
                            })) {
                                yield {
                                    ...evt,
                                    index: obj.replicas
                                };
                            }
                            obj.replicas++;
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.heldSinceMs`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, ReplicasAnswer.codec());
    }
    ReplicasAnswer.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, ReplicasAnswer.codec(), opts);
    }
    ReplicasAnswer.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, ReplicasAnswer.codec(), opts);
    }
    ReplicasAnswer.stream = stream;
})(ReplicasAnswer || (ReplicasAnswer = {}));
export var SharersAnswer;
(function (SharersAnswer) {
    let _codec;
    SharersAnswer.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.hashes != null && obj.hashes.byteLength > 0)) {
                    w.uint32(10);
                    w.bytes(obj.hashes);
                }
                if ((obj.threshold != null && obj.threshold !== 0)) {
                    w.uint32(16);
                    w.uint64Number(obj.threshold);
                }
                if ((obj.inUseForMs != null && obj.inUseForMs !== 0)) {
                    w.uint32(24);
                    w.uint64Number(obj.inUseForMs);
                }
                if ((obj.tenureMs != null && obj.tenureMs !== 0)) {
                    w.uint32(32);
                    w.uint64Number(obj.tenureMs);
                }
                if ((obj.all != null && obj.all !== false)) {
                    w.uint32(40);
                    w.bool(obj.all);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    hashes: uint8ArrayAlloc(0),
                    threshold: 0,
                    inUseForMs: 0,
                    tenureMs: 0,
                    all: false
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.hashes = reader.bytes();
                            break;
                        }
                        case 2: {
                            obj.threshold = reader.uint64Number();
                            break;
                        }
                        case 3: {
                            obj.inUseForMs = reader.uint64Number();
                            break;
                        }
                        case 4: {
                            obj.tenureMs = reader.uint64Number();
                            break;
                        }
                        case 5: {
                            obj.all = reader.bool();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.hashes`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.threshold`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.inUseForMs`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 4: {
                            yield {
                                field: `${prefix}.tenureMs`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 5: {
                            yield {
                                field: `${prefix}.all`,
                                value: reader.bool()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, SharersAnswer.codec());
    }
    SharersAnswer.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, SharersAnswer.codec(), opts);
    }
    SharersAnswer.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, SharersAnswer.codec(), opts);
    }
    SharersAnswer.stream = stream;
})(SharersAnswer || (SharersAnswer = {}));
export var ReplicaFound;
(function (ReplicaFound) {
    let _codec;
    ReplicaFound.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.record != null && obj.record.byteLength > 0)) {
                    w.uint32(10);
                    w.bytes(obj.record);
                }
                if ((obj.verified != null && obj.verified !== false)) {
                    w.uint32(16);
                    w.bool(obj.verified);
                }
                if ((obj.met != null && obj.met !== 0)) {
                    w.uint32(24);
                    w.uint32(obj.met);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    record: uint8ArrayAlloc(0),
                    verified: false,
                    met: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.record = reader.bytes();
                            break;
                        }
                        case 2: {
                            obj.verified = reader.bool();
                            break;
                        }
                        case 3: {
                            obj.met = reader.uint32();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.record`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.verified`,
                                value: reader.bool()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.met`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, ReplicaFound.codec());
    }
    ReplicaFound.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, ReplicaFound.codec(), opts);
    }
    ReplicaFound.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, ReplicaFound.codec(), opts);
    }
    ReplicaFound.stream = stream;
})(ReplicaFound || (ReplicaFound = {}));
export var HeldRecord;
(function (HeldRecord) {
    let _codec;
    HeldRecord.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.table != null && obj.table !== 0)) {
                    w.uint32(8);
                    w.uint32(obj.table);
                }
                if ((obj.key != null && obj.key !== '')) {
                    w.uint32(18);
                    w.string(obj.key);
                }
                if ((obj.signer != null && obj.signer !== '')) {
                    w.uint32(26);
                    w.string(obj.signer);
                }
                if ((obj.sequence != null && obj.sequence !== 0)) {
                    w.uint32(32);
                    w.uint64Number(obj.sequence);
                }
                if ((obj.expiresMs != null && obj.expiresMs !== 0)) {
                    w.uint32(40);
                    w.uint64Number(obj.expiresMs);
                }
                if ((obj.digest != null && obj.digest !== '')) {
                    w.uint32(50);
                    w.string(obj.digest);
                }
                if ((obj.bytes != null && obj.bytes.byteLength > 0)) {
                    w.uint32(58);
                    w.bytes(obj.bytes);
                }
                if ((obj.heldSinceMs != null && obj.heldSinceMs !== 0)) {
                    w.uint32(64);
                    w.uint64Number(obj.heldSinceMs);
                }
                if ((obj.delegationSequence != null && obj.delegationSequence !== 0)) {
                    w.uint32(72);
                    w.uint64Number(obj.delegationSequence);
                }
                if (obj.images != null && obj.images.length > 0) {
                    for (const value of obj.images) {
                        w.uint32(82);
                        w.string(value);
                    }
                }
                if ((obj.conflicting != null && obj.conflicting.byteLength > 0)) {
                    w.uint32(90);
                    w.bytes(obj.conflicting);
                }
                if ((obj.complete != null && obj.complete !== false)) {
                    w.uint32(96);
                    w.bool(obj.complete);
                }
                if ((obj.verified != null && obj.verified !== false)) {
                    w.uint32(104);
                    w.bool(obj.verified);
                }
                if ((obj.met != null && obj.met !== 0)) {
                    w.uint32(112);
                    w.uint32(obj.met);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    table: 0,
                    key: '',
                    signer: '',
                    sequence: 0,
                    expiresMs: 0,
                    digest: '',
                    bytes: uint8ArrayAlloc(0),
                    heldSinceMs: 0,
                    delegationSequence: 0,
                    images: [],
                    conflicting: uint8ArrayAlloc(0),
                    complete: false,
                    verified: false,
                    met: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.table = reader.uint32();
                            break;
                        }
                        case 2: {
                            obj.key = reader.string();
                            break;
                        }
                        case 3: {
                            obj.signer = reader.string();
                            break;
                        }
                        case 4: {
                            obj.sequence = reader.uint64Number();
                            break;
                        }
                        case 5: {
                            obj.expiresMs = reader.uint64Number();
                            break;
                        }
                        case 6: {
                            obj.digest = reader.string();
                            break;
                        }
                        case 7: {
                            obj.bytes = reader.bytes();
                            break;
                        }
                        case 8: {
                            obj.heldSinceMs = reader.uint64Number();
                            break;
                        }
                        case 9: {
                            obj.delegationSequence = reader.uint64Number();
                            break;
                        }
                        case 10: {
                            if (opts.limits?.images != null && obj.images.length === opts.limits.images) {
                                throw new MaxLengthError('Decode error - repeated field "images" had too many elements');
                            }
                            obj.images.push(reader.string());
                            break;
                        }
                        case 11: {
                            obj.conflicting = reader.bytes();
                            break;
                        }
                        case 12: {
                            obj.complete = reader.bool();
                            break;
                        }
                        case 13: {
                            obj.verified = reader.bool();
                            break;
                        }
                        case 14: {
                            obj.met = reader.uint32();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const obj = {
                    images: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.table`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.key`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.signer`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 4: {
                            yield {
                                field: `${prefix}.sequence`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 5: {
                            yield {
                                field: `${prefix}.expiresMs`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 6: {
                            yield {
                                field: `${prefix}.digest`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 7: {
                            yield {
                                field: `${prefix}.bytes`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        case 8: {
                            yield {
                                field: `${prefix}.heldSinceMs`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 9: {
                            yield {
                                field: `${prefix}.delegationSequence`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 10: {
                            if (opts.limits?.images != null && obj.images === opts.limits.images) {
                                throw new MaxLengthError('Streaming decode error - repeated field "images" had too many elements');
                            }
                            yield {
                                field: `${prefix}.images[]`,
                                index: obj.images,
                                value: reader.string()
                            };
                            obj.images++;
                            break;
                        }
                        case 11: {
                            yield {
                                field: `${prefix}.conflicting`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        case 12: {
                            yield {
                                field: `${prefix}.complete`,
                                value: reader.bool()
                            };
                            break;
                        }
                        case 13: {
                            yield {
                                field: `${prefix}.verified`,
                                value: reader.bool()
                            };
                            break;
                        }
                        case 14: {
                            yield {
                                field: `${prefix}.met`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, HeldRecord.codec());
    }
    HeldRecord.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, HeldRecord.codec(), opts);
    }
    HeldRecord.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, HeldRecord.codec(), opts);
    }
    HeldRecord.stream = stream;
})(HeldRecord || (HeldRecord = {}));
export var StoredLease;
(function (StoredLease) {
    let _codec;
    StoredLease.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.hash != null && obj.hash !== 0)) {
                    w.uint32(9);
                    w.double(obj.hash);
                }
                if ((obj.sequence != null && obj.sequence !== 0)) {
                    w.uint32(16);
                    w.uint64Number(obj.sequence);
                }
                if ((obj.runningUntilMs != null && obj.runningUntilMs !== 0)) {
                    w.uint32(24);
                    w.uint64Number(obj.runningUntilMs);
                }
                if ((obj.keepUntilMs != null && obj.keepUntilMs !== 0)) {
                    w.uint32(32);
                    w.uint64Number(obj.keepUntilMs);
                }
                if ((obj.givenBack != null && obj.givenBack !== false)) {
                    w.uint32(40);
                    w.bool(obj.givenBack);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    hash: 0,
                    sequence: 0,
                    runningUntilMs: 0,
                    keepUntilMs: 0,
                    givenBack: false
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.hash = reader.double();
                            break;
                        }
                        case 2: {
                            obj.sequence = reader.uint64Number();
                            break;
                        }
                        case 3: {
                            obj.runningUntilMs = reader.uint64Number();
                            break;
                        }
                        case 4: {
                            obj.keepUntilMs = reader.uint64Number();
                            break;
                        }
                        case 5: {
                            obj.givenBack = reader.bool();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.hash`,
                                value: reader.double()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.sequence`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.runningUntilMs`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 4: {
                            yield {
                                field: `${prefix}.keepUntilMs`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 5: {
                            yield {
                                field: `${prefix}.givenBack`,
                                value: reader.bool()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, StoredLease.codec());
    }
    StoredLease.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, StoredLease.codec(), opts);
    }
    StoredLease.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, StoredLease.codec(), opts);
    }
    StoredLease.stream = stream;
})(StoredLease || (StoredLease = {}));
export var RememberedAppliance;
(function (RememberedAppliance) {
    let _codec;
    RememberedAppliance.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.sequence != null && obj.sequence !== 0)) {
                    w.uint32(8);
                    w.uint64Number(obj.sequence);
                }
                if ((obj.digest != null && obj.digest !== '')) {
                    w.uint32(18);
                    w.string(obj.digest);
                }
                if ((obj.bytes != null && obj.bytes.byteLength > 0)) {
                    w.uint32(26);
                    w.bytes(obj.bytes);
                }
                if ((obj.conflict != null && obj.conflict !== false)) {
                    w.uint32(32);
                    w.bool(obj.conflict);
                }
                if ((obj.seenMs != null && obj.seenMs !== 0)) {
                    w.uint32(40);
                    w.uint64Number(obj.seenMs);
                }
                if ((obj.delegationSequence != null && obj.delegationSequence !== 0)) {
                    w.uint32(48);
                    w.uint64Number(obj.delegationSequence);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    sequence: 0,
                    digest: '',
                    bytes: uint8ArrayAlloc(0),
                    conflict: false,
                    seenMs: 0,
                    delegationSequence: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.sequence = reader.uint64Number();
                            break;
                        }
                        case 2: {
                            obj.digest = reader.string();
                            break;
                        }
                        case 3: {
                            obj.bytes = reader.bytes();
                            break;
                        }
                        case 4: {
                            obj.conflict = reader.bool();
                            break;
                        }
                        case 5: {
                            obj.seenMs = reader.uint64Number();
                            break;
                        }
                        case 6: {
                            obj.delegationSequence = reader.uint64Number();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.sequence`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.digest`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.bytes`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        case 4: {
                            yield {
                                field: `${prefix}.conflict`,
                                value: reader.bool()
                            };
                            break;
                        }
                        case 5: {
                            yield {
                                field: `${prefix}.seenMs`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 6: {
                            yield {
                                field: `${prefix}.delegationSequence`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, RememberedAppliance.codec());
    }
    RememberedAppliance.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, RememberedAppliance.codec(), opts);
    }
    RememberedAppliance.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, RememberedAppliance.codec(), opts);
    }
    RememberedAppliance.stream = stream;
})(RememberedAppliance || (RememberedAppliance = {}));
