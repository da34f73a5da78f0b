import { describe, expect, test } from 'vitest'
import { MAX_PROFILE_BYTES } from '../../../src/image/boot-profile.ts'
import { FrameParser } from '../../../src/swarm/frame-parser.ts'
import { encodeFrame, FRAME, type Frame, type FrameType, type Role } from '../../../src/swarm/frames.ts'
import * as messages from '../../../src/swarm/messages.ts'
import { GetNodes, Have, Hello, Missing, Open, Want } from '../../../src/swarm/proto/blocks.js'

function parse(bytes: Uint8Array, from: Role): Frame {
  const parser = new FrameParser(from)
  parser.push(bytes)
  return parser.next()!
}

function raw(type: FrameType, from: Role, body: Uint8Array): Frame {
  return parse(encodeFrame(type, 1, body), from)
}

const invalid = expect.objectContaining({ code: 'WIRE_INVALID' })

describe('control messages', () => {
  test('come back as they were sent', () => {
    expect(messages.readHello(parse(messages.helloFrame('rowan/1', 3), 'server'))).toEqual({
      agent: 'rowan/1',
      records: 3
    })
    const id = new Uint8Array(32).fill(7)
    expect(messages.readOpen(parse(messages.openFrame(4, id, 1), 'requester'))).toMatchObject({ index: 1 })
    const answer = { root: new Uint8Array([1]), top: new Uint8Array([2]), complete: true, follow: 64 }
    expect(messages.readImage(parse(messages.imageFrame(4, answer), 'server'))).toMatchObject({
      complete: true,
      follow: 64
    })
    const withProfile = { ...answer, profile: new Uint8Array(MAX_PROFILE_BYTES).fill(9) }
    const image = messages.readImage(parse(messages.imageFrame(4, withProfile), 'server'))
    expect(Buffer.from(image.profile)).toEqual(Buffer.from(withProfile.profile))
    const refs = [{ level: 1, position: 5 }]
    expect(messages.readGetNodes(parse(messages.getNodesFrame(4, refs, 2), 'requester'))).toEqual({ refs, priority: 2 })
    const parts = [{ level: 0, position: 9, bytes: new Uint8Array([3]) }]
    const nodes = messages.readNodes(parse(messages.nodesFrame(4, parts, refs), 'server'))
    expect(nodes.parts[0]).toMatchObject({ level: 0, position: 9 })
    expect(nodes.missing).toEqual(refs)
    expect(messages.readWant(parse(messages.wantFrame(4, [1, 2], 3, true), 'requester'))).toEqual({
      blocks: [1, 2],
      onBehalf: false,
      priority: 3,
      acceptZstd: true
    })
    expect(messages.readRaise(parse(messages.raiseFrame(4, [1], refs, 0), 'requester'))).toEqual({
      blocks: [1],
      nodes: refs,
      priority: 0
    })
    expect(messages.readCancel(parse(messages.cancelFrame(4, [8]), 'requester'))).toEqual([8])
    expect(messages.readMissing(parse(messages.missingFrame(4, [8], 'zero'), 'server'))).toEqual({
      blocks: [8],
      reason: 'zero'
    })
    const pages = [{ page: 2, bitmap: new Uint8Array(128).fill(255) }]
    expect(messages.readHave(parse(messages.haveFrame(4, false, pages), 'server'))).toMatchObject({ complete: false })
    const others = [{ peer: 'p', addresses: ['/ip4/1.2.3.4/tcp/1'] }]
    expect(messages.readBusy(parse(messages.busyFrame(others, 50), 'server'))).toEqual({ others, retryAfterMs: 50 })
    expect(messages.readProblem(parse(messages.problemFrame('A', 'b'), 'server'))).toEqual({ code: 'A', message: 'b' })
  })

  test('a boot profile beyond its bound is refused', () => {
    const profile = new Uint8Array(MAX_PROFILE_BYTES + 1)
    const frame = messages.imageFrame(4, {
      root: profile.slice(0, 1),
      top: profile.slice(0, 1),
      complete: true,
      follow: 0,
      profile
    })
    expect(() => messages.readImage(parse(frame, 'server'))).toThrow('profile')
  })

  test('a body that is not the message is refused', () => {
    expect(() => messages.readWant(raw(FRAME.want, 'requester', new Uint8Array([0xff, 0xff, 0xff])))).toThrow(invalid)
  })

  test('lists beyond their bounds are refused', () => {
    const blocks = Array.from({ length: 513 }, (_, n) => n)
    expect(() => messages.readWant(raw(FRAME.want, 'requester', Want.encode({ blocks })))).toThrow(invalid)
    const refs = Array.from({ length: 65 }, () => ({ level: 0, position: 1 }))
    expect(() => messages.readGetNodes(raw(FRAME.getNodes, 'requester', GetNodes.encode({ refs })))).toThrow(invalid)
  })

  test('values outside their meaning are refused', () => {
    expect(() => messages.readWant(raw(FRAME.want, 'requester', Want.encode({ priority: 4 })))).toThrow(invalid)
    expect(() => messages.readMissing(raw(FRAME.missing, 'server', Missing.encode({ reason: 9 })))).toThrow(invalid)
    expect(() => messages.readOpen(raw(FRAME.open, 'requester', Open.encode({ image: new Uint8Array(31) })))).toThrow(
      invalid
    )
    expect(() => messages.readHello(raw(FRAME.hello, 'server', Hello.encode({ records: 17 })))).toThrow(invalid)
    const refs = [{ level: 4, position: 0 }]
    expect(() => messages.readGetNodes(raw(FRAME.getNodes, 'requester', GetNodes.encode({ refs })))).toThrow(invalid)
    const pages = [{ page: 0, bitmap: new Uint8Array(127) }]
    expect(() => messages.readHave(raw(FRAME.have, 'server', Have.encode({ pages })))).toThrow(invalid)
  })

  test('what a peer complains of cannot forge a line of the log', () => {
    const { message } = messages.readProblem(parse(messages.problemFrame('X', 'a\nb\u001b[31m'), 'server'))
    expect(message).toBe('a?b?[31m')
  })
})
