import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { RecordEnvelope } from '@libp2p/peer-record'
import { expect, test } from 'vitest'
import { openRecord, RECORD_KINDS, sealRecord } from '../../../src/image/signed.ts'
import { withCode } from './with-code.ts'

const key = await generateKeyPair('Ed25519')
const payload = Buffer.from('what is signed')
const LIMITS = { maxBytes: 1024 }

test.each(RECORD_KINDS)('a %s record opens with its payload and its signer', async kind => {
  const opened = await openRecord(kind, await sealRecord(kind, payload, key), LIMITS)
  expect(Buffer.from(opened.payload)).toEqual(payload)
  expect(opened.signer).toBe(peerIdFromPrivateKey(key).toString())
})

test('a record of one kind is none of another', async () => {
  for (const kind of RECORD_KINDS) {
    const bytes = await sealRecord(kind, payload, key)
    for (const other of RECORD_KINDS) {
      if (other === kind) continue
      await expect(openRecord(other, bytes, LIMITS)).rejects.toThrow(withCode('RECORD_INVALID'))
    }
  }
})

test('the domain is signed: the type of the payload alone does not make a record of this kind', async () => {
  const codec = Buffer.from('/rowan/record/latest/1')
  const record = { domain: 'libp2p-peer-record', codec, marshal: () => payload, equals: () => false }
  const envelope = await RecordEnvelope.seal(record, key)
  await expect(openRecord('rowan-latest', envelope.marshal(), LIMITS)).rejects.toThrow(withCode('SIGNATURE_INVALID'))
})

test('no byte of a record can be changed', async () => {
  const bytes = await sealRecord('rowan-latest', payload, key)
  for (let at = 0; at < bytes.byteLength; at++) {
    const changed = Uint8Array.from(bytes)
    changed[at]! ^= 0x01
    const error: unknown = await openRecord('rowan-latest', changed, LIMITS).catch((thrown: unknown) => thrown)
    expect(['RECORD_INVALID', 'SIGNATURE_INVALID'], `byte ${at}`).toContain((error as { code: string }).code)
  }
})

test('another key cannot be put in front of a signature', async () => {
  const other = await generateKeyPair('Ed25519')
  const mine = RecordEnvelope.createFromProtobuf(await sealRecord('rowan-latest', payload, key))
  const forged = new RecordEnvelope({
    publicKey: other.publicKey,
    payloadType: mine.payloadType,
    payload: mine.payload,
    signature: mine.signature
  })
  await expect(openRecord('rowan-latest', forged.marshal(), LIMITS)).rejects.toThrow(withCode('SIGNATURE_INVALID'))
})

test('refuses more bytes than the limit, trailing bytes and unknown fields', async () => {
  const bytes = await sealRecord('rowan-latest', payload, key)
  await expect(openRecord('rowan-latest', bytes, { maxBytes: bytes.byteLength - 1 })).rejects.toThrow(
    withCode('RECORD_INVALID')
  )
  for (const extra of [[0], [0x78, 1]]) {
    const longer = Buffer.concat([bytes, Uint8Array.from(extra)])
    await expect(openRecord('rowan-latest', longer, LIMITS)).rejects.toThrow(withCode('RECORD_INVALID'))
  }
})

test('only Ed25519 keys sign', async () => {
  const secp256k1 = await generateKeyPair('secp256k1')
  await expect(sealRecord('rowan-latest', payload, secp256k1)).rejects.toThrow(withCode('KEY_INVALID'))
  const record = {
    domain: 'rowan-latest',
    codec: Buffer.from('/rowan/record/latest/1'),
    marshal: () => payload,
    equals: () => false
  }
  const bytes = (await RecordEnvelope.seal(record, secp256k1)).marshal()
  await expect(openRecord('rowan-latest', bytes, LIMITS)).rejects.toThrow(withCode('RECORD_INVALID'))
})
