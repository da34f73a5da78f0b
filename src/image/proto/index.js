import { decodeMessage, encodeMessage, message, streamMessage } from 'protons-runtime';
import { alloc as uint8ArrayAlloc } from 'uint8arrays/alloc';
export var IndexNode;
(function (IndexNode) {
    let _codec;
    IndexNode.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.level != null && obj.level !== 0)) {
                    w.uint32(8);
                    w.uint32(obj.level);
                }
                if ((obj.present != null && obj.present.byteLength > 0)) {
                    w.uint32(18);
                    w.bytes(obj.present);
                }
                if ((obj.hashes != null && obj.hashes.byteLength > 0)) {
                    w.uint32(26);
                    w.bytes(obj.hashes);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    level: 0,
                    present: uint8ArrayAlloc(0),
                    hashes: uint8ArrayAlloc(0)
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.level = reader.uint32();
                            break;
                        }
                        case 2: {
                            obj.present = reader.bytes();
                            break;
                        }
                        case 3: {
                            obj.hashes = reader.bytes();
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
                                field: `${prefix}.level`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.present`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.hashes`,
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
        return encodeMessage(obj, IndexNode.codec());
    }
    IndexNode.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, IndexNode.codec(), opts);
    }
    IndexNode.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, IndexNode.codec(), opts);
    }
    IndexNode.stream = stream;
})(IndexNode || (IndexNode = {}));
export var ImageRoot;
(function (ImageRoot) {
    let _codec;
    ImageRoot.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.format != null && obj.format !== 0)) {
                    w.uint32(8);
                    w.uint32(obj.format);
                }
                if ((obj.sizeBytes != null && obj.sizeBytes !== 0)) {
                    w.uint32(16);
                    w.uint64Number(obj.sizeBytes);
                }
                if ((obj.zeroBlocks != null && obj.zeroBlocks !== 0)) {
                    w.uint32(24);
                    w.uint64Number(obj.zeroBlocks);
                }
                if (obj.top != null) {
                    w.uint32(34);
                    w.bytes(obj.top);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    format: 0,
                    sizeBytes: 0,
                    zeroBlocks: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.format = reader.uint32();
                            break;
                        }
                        case 2: {
                            obj.sizeBytes = reader.uint64Number();
                            break;
                        }
                        case 3: {
                            obj.zeroBlocks = reader.uint64Number();
                            break;
                        }
                        case 4: {
                            obj.top = reader.bytes();
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
                                field: `${prefix}.format`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.sizeBytes`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.zeroBlocks`,
                                value: reader.uint64Number()
                            };
                            break;
                        }
                        case 4: {
                            yield {
                                field: `${prefix}.top`,
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
        return encodeMessage(obj, ImageRoot.codec());
    }
    ImageRoot.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, ImageRoot.codec(), opts);
    }
    ImageRoot.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, ImageRoot.codec(), opts);
    }
    ImageRoot.stream = stream;
})(ImageRoot || (ImageRoot = {}));
