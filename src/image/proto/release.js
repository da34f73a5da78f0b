import { decodeMessage, encodeMessage, MaxLengthError, message, streamMessage } from 'protons-runtime';
import { alloc as uint8ArrayAlloc } from 'uint8arrays/alloc';
export var Delegation;
(function (Delegation) {
    let _codec;
    Delegation.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.publisher != null && obj.publisher !== '')) {
                    w.uint32(10);
                    w.string(obj.publisher);
                }
                if ((obj.releaseKey != null && obj.releaseKey !== '')) {
                    w.uint32(18);
                    w.string(obj.releaseKey);
                }
                if ((obj.sequence != null && obj.sequence !== 0)) {
                    w.uint32(24);
                    w.uint64Number(obj.sequence);
                }
                if ((obj.issuedMs != null && obj.issuedMs !== 0)) {
                    w.uint32(32);
                    w.uint64Number(obj.issuedMs);
                }
                if ((obj.expiresMs != null && obj.expiresMs !== 0)) {
                    w.uint32(40);
                    w.uint64Number(obj.expiresMs);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    publisher: '',
                    releaseKey: '',
                    sequence: 0,
                    issuedMs: 0,
                    expiresMs: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.publisher = reader.string();
                            break;
                        }
                        case 2: {
                            obj.releaseKey = reader.string();
                            break;
                        }
                        case 3: {
                            obj.sequence = reader.uint64Number();
                            break;
                        }
                        case 4: {
                            obj.issuedMs = reader.uint64Number();
                            break;
                        }
                        case 5: {
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
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.publisher`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.releaseKey`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.sequence`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 4: {
                            yield {
                                field: `${prefix}.issuedMs`,
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
        return encodeMessage(obj, Delegation.codec());
    }
    Delegation.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Delegation.codec(), opts);
    }
    Delegation.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Delegation.codec(), opts);
    }
    Delegation.stream = stream;
})(Delegation || (Delegation = {}));
export var Label;
(function (Label) {
    let _codec;
    Label.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.key != null && obj.key !== '')) {
                    w.uint32(10);
                    w.string(obj.key);
                }
                if ((obj.value != null && obj.value !== '')) {
                    w.uint32(18);
                    w.string(obj.value);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    key: '',
                    value: ''
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.key = reader.string();
                            break;
                        }
                        case 2: {
                            obj.value = reader.string();
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
                                field: `${prefix}.key`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.value`,
                                value: reader.string()
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
        return encodeMessage(obj, Label.codec());
    }
    Label.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Label.codec(), opts);
    }
    Label.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Label.codec(), opts);
    }
    Label.stream = stream;
})(Label || (Label = {}));
export var Release;
(function (Release) {
    let _codec;
    Release.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.version != null && obj.version !== '')) {
                    w.uint32(10);
                    w.string(obj.version);
                }
                if ((obj.image != null && obj.image.byteLength > 0)) {
                    w.uint32(18);
                    w.bytes(obj.image);
                }
                if ((obj.sizeBytes != null && obj.sizeBytes !== 0)) {
                    w.uint32(24);
                    w.uint64Number(obj.sizeBytes);
                }
                if ((obj.zeroBlocks != null && obj.zeroBlocks !== 0)) {
                    w.uint32(32);
                    w.uint64Number(obj.zeroBlocks);
                }
                if (obj.parent != null) {
                    w.uint32(42);
                    w.string(obj.parent);
                }
                if (obj.labels != null && obj.labels.length > 0) {
                    for (const value of obj.labels) {
                        w.uint32(50);
                        Label.codec().encode(value, w);
                    }
                }
                if ((obj.publishedMs != null && obj.publishedMs !== 0)) {
                    w.uint32(56);
                    w.uint64Number(obj.publishedMs);
                }
                if (obj.profile != null) {
                    w.uint32(66);
                    w.bytes(obj.profile);
                }
                if (obj.webSeeds != null && obj.webSeeds.length > 0) {
                    for (const value of obj.webSeeds) {
                        w.uint32(74);
                        w.string(value);
                    }
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    version: '',
                    image: uint8ArrayAlloc(0),
                    sizeBytes: 0,
                    zeroBlocks: 0,
                    labels: [],
                    publishedMs: 0,
                    webSeeds: []
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.version = reader.string();
                            break;
                        }
                        case 2: {
                            obj.image = reader.bytes();
                            break;
                        }
                        case 3: {
                            obj.sizeBytes = reader.uint64Number();
                            break;
                        }
                        case 4: {
                            obj.zeroBlocks = reader.uint64Number();
                            break;
                        }
                        case 5: {
                            obj.parent = reader.string();
                            break;
                        }
                        case 6: {
                            if (opts.limits?.labels != null && obj.labels.length === opts.limits.labels) {
                                throw new MaxLengthError('Decode error - repeated field "labels" had too many elements');
                            }
                            obj.labels.push(Label.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.labels$
                            }));
                            break;
                        }
                        case 7: {
                            obj.publishedMs = reader.uint64Number();
                            break;
                        }
                        case 8: {
                            obj.profile = reader.bytes();
                            break;
                        }
                        case 9: {
                            if (opts.limits?.webSeeds != null && obj.webSeeds.length === opts.limits.webSeeds) {
                                throw new MaxLengthError('Decode error - repeated field "webSeeds" had too many elements');
                            }
                            obj.webSeeds.push(reader.string());
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
                    labels: 0,
                    webSeeds: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.version`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.image`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.sizeBytes`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 4: {
                            yield {
                                field: `${prefix}.zeroBlocks`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 5: {
                            yield {
                                field: `${prefix}.parent`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 6: {
                            if (opts.limits?.labels != null && obj.labels === opts.limits.labels) {
                                throw new MaxLengthError('Streaming decode error - repeated field "labels" had too many elements');
                            }
                            for (const evt of Label.codec().stream(reader, reader.uint32(), `${prefix}.labels[]`, {
                                limits: opts.limits?.labels$
                            })) {
                                yield {
                                    ...evt,
                                    index: obj.labels
                                };
                            }
                            obj.labels++;
                            break;
                        }
                        case 7: {
                            yield {
                                field: `${prefix}.publishedMs`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 8: {
                            yield {
                                field: `${prefix}.profile`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        case 9: {
                            if (opts.limits?.webSeeds != null && obj.webSeeds === opts.limits.webSeeds) {
                                throw new MaxLengthError('Streaming decode error - repeated field "webSeeds" had too many elements');
                            }
                            yield {
                                field: `${prefix}.webSeeds[]`,
                                index: obj.webSeeds,
                                value: reader.string()
                            };
                            obj.webSeeds++;
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
        return encodeMessage(obj, Release.codec());
    }
    Release.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Release.codec(), opts);
    }
    Release.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Release.codec(), opts);
    }
    Release.stream = stream;
})(Release || (Release = {}));
export var Channel;
(function (Channel) {
    let _codec;
    Channel.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.name != null && obj.name !== '')) {
                    w.uint32(10);
                    w.string(obj.name);
                }
                if ((obj.version != null && obj.version !== '')) {
                    w.uint32(18);
                    w.string(obj.version);
                }
                if ((obj.rolloutPercent != null && obj.rolloutPercent !== 0)) {
                    w.uint32(24);
                    w.uint32(obj.rolloutPercent);
                }
                if (obj.previous != null) {
                    w.uint32(34);
                    w.string(obj.previous);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    name: '',
                    version: '',
                    rolloutPercent: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.name = reader.string();
                            break;
                        }
                        case 2: {
                            obj.version = reader.string();
                            break;
                        }
                        case 3: {
                            obj.rolloutPercent = reader.uint32();
                            break;
                        }
                        case 4: {
                            obj.previous = reader.string();
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
                                field: `${prefix}.name`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.version`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.rolloutPercent`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        case 4: {
                            yield {
                                field: `${prefix}.previous`,
                                value: reader.string()
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
        return encodeMessage(obj, Channel.codec());
    }
    Channel.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Channel.codec(), opts);
    }
    Channel.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Channel.codec(), opts);
    }
    Channel.stream = stream;
})(Channel || (Channel = {}));
export var Latest;
(function (Latest) {
    let _codec;
    Latest.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.appliance != null && obj.appliance !== '')) {
                    w.uint32(10);
                    w.string(obj.appliance);
                }
                if ((obj.sequence != null && obj.sequence !== 0)) {
                    w.uint32(16);
                    w.uint64Number(obj.sequence);
                }
                if ((obj.issuedMs != null && obj.issuedMs !== 0)) {
                    w.uint32(24);
                    w.uint64Number(obj.issuedMs);
                }
                if ((obj.expiresMs != null && obj.expiresMs !== 0)) {
                    w.uint32(32);
                    w.uint64Number(obj.expiresMs);
                }
                if (obj.channels != null && obj.channels.length > 0) {
                    for (const value of obj.channels) {
                        w.uint32(42);
                        Channel.codec().encode(value, w);
                    }
                }
                if (obj.releases != null && obj.releases.length > 0) {
                    for (const value of obj.releases) {
                        w.uint32(50);
                        Release.codec().encode(value, w);
                    }
                }
                if ((obj.delegation != null && obj.delegation.byteLength > 0)) {
                    w.uint32(58);
                    w.bytes(obj.delegation);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    appliance: '',
                    sequence: 0,
                    issuedMs: 0,
                    expiresMs: 0,
                    channels: [],
                    releases: [],
                    delegation: uint8ArrayAlloc(0)
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
                            obj.sequence = reader.uint64Number();
                            break;
                        }
                        case 3: {
                            obj.issuedMs = reader.uint64Number();
                            break;
                        }
                        case 4: {
                            obj.expiresMs = reader.uint64Number();
                            break;
                        }
                        case 5: {
                            if (opts.limits?.channels != null && obj.channels.length === opts.limits.channels) {
                                throw new MaxLengthError('Decode error - repeated field "channels" had too many elements');
                            }
                            obj.channels.push(Channel.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.channels$
                            }));
                            break;
                        }
                        case 6: {
                            if (opts.limits?.releases != null && obj.releases.length === opts.limits.releases) {
                                throw new MaxLengthError('Decode error - repeated field "releases" had too many elements');
                            }
                            obj.releases.push(Release.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.releases$
                            }));
                            break;
                        }
                        case 7: {
                            obj.delegation = reader.bytes();
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
                    channels: 0,
                    releases: 0
                };
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
                                field: `${prefix}.expiresMs`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 5: {
                            if (opts.limits?.channels != null && obj.channels === opts.limits.channels) {
                                throw new MaxLengthError('Streaming decode error - repeated field "channels" had too many elements');
                            }
                            for (const evt of Channel.codec().stream(reader, reader.uint32(), `${prefix}.channels[]`, {
                                limits: opts.limits?.channels$
                            })) {
                                yield {
                                    ...evt,
                                    index: obj.channels
                                };
                            }
                            obj.channels++;
                            break;
                        }
                        case 6: {
                            if (opts.limits?.releases != null && obj.releases === opts.limits.releases) {
                                throw new MaxLengthError('Streaming decode error - repeated field "releases" had too many elements');
                            }
                            for (const evt of Release.codec().stream(reader, reader.uint32(), `${prefix}.releases[]`, {
                                limits: opts.limits?.releases$
                            })) {
                                yield {
                                    ...evt,
                                    index: obj.releases
                                };
                            }
                            obj.releases++;
                            break;
                        }
                        case 7: {
                            yield {
                                field: `${prefix}.delegation`,
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
        return encodeMessage(obj, Latest.codec());
    }
    Latest.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Latest.codec(), opts);
    }
    Latest.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Latest.codec(), opts);
    }
    Latest.stream = stream;
})(Latest || (Latest = {}));
