"""The targets of `engine/wire`: one for each decoder."""

from __future__ import annotations

from typing import Final

from engine.wire import (
    create,
    create_contexts,
    dfs,
    error,
    fscc,
    fscc_chain,
    fscc_control,
    fscc_directory,
    fscc_ea,
    fscc_pipe,
    fscc_quota,
    fscc_set,
    fscc_stream,
    fscc_volume,
    header,
    io,
    ioctl,
    negotiate,
    notify,
    ntlm_challenge,
    primitives,
    query,
    reparse,
    security,
    session,
    transform,
    tree,
)
from engine.wire.fscc import FileInformationClass
from tests.fuzz.target import Script, Target, covering, of_view

DIRECTORY_CLASSES: Final = (
    FileInformationClass.FileDirectoryInformation,
    FileInformationClass.FileFullDirectoryInformation,
    FileInformationClass.FileBothDirectoryInformation,
    FileInformationClass.FileNamesInformation,
    FileInformationClass.FileIdBothDirectoryInformation,
    FileInformationClass.FileIdFullDirectoryInformation,
    FileInformationClass.FileIdExtdDirectoryInformation,
)


def _directory(data: bytes) -> None:
    """The first byte chooses the information class."""
    script = Script(data)
    kind = DIRECTORY_CLASSES[script.below(len(DIRECTORY_CLASSES))]
    fscc_directory.decode_directory_untrusted(kind, memoryview(data)[1:])


def _chain(data: bytes) -> None:
    """The first byte is the smallest entry's size."""
    smallest = Script(data).number()
    entries = list(fscc_chain.split_chain_untrusted(memoryview(data)[1:], smallest, "list"))
    assert all(len(entry) >= smallest for entry in entries)
    assert sum(map(len, entries)) == max(len(data) - 1, 0)


def _compound(data: bytes) -> None:
    messages = header.split_compound_untrusted(memoryview(data))
    assert b"".join(messages) == data
    assert all(len(message) >= primitives.SMB2_HEADER_SIZE for message in messages)


def _details(data: bytes) -> None:
    message = error.ErrorResponse.decode_untrusted(memoryview(data))
    assert len(message.details) <= len(data)


_MESSAGES: Final = (
    negotiate.NegotiateRequest.decode_untrusted,
    negotiate.NegotiateResponse.decode_untrusted,
    session.SessionSetupRequest.decode_untrusted,
    session.SessionSetupResponse.decode_untrusted,
    session.LogoffRequest.decode_untrusted,
    session.LogoffResponse.decode_untrusted,
    tree.TreeConnectRequest.decode_untrusted,
    tree.TreeConnectResponse.decode_untrusted,
    tree.TreeDisconnectRequest.decode_untrusted,
    tree.TreeDisconnectResponse.decode_untrusted,
    create.CreateRequest.decode_untrusted,
    create.CreateResponse.decode_untrusted,
    create.CloseRequest.decode_untrusted,
    create.CloseResponse.decode_untrusted,
    io.FlushRequest.decode_untrusted,
    io.FlushResponse.decode_untrusted,
    io.ReadRequest.decode_untrusted,
    io.ReadResponse.decode_untrusted,
    io.WriteRequest.decode_untrusted,
    io.WriteResponse.decode_untrusted,
    io.LockRequest.decode_untrusted,
    io.LockResponse.decode_untrusted,
    io.IoctlRequest.decode_untrusted,
    io.IoctlResponse.decode_untrusted,
    io.EchoRequest.decode_untrusted,
    io.EchoResponse.decode_untrusted,
    io.CancelRequest.decode_untrusted,
    query.QueryDirectoryRequest.decode_untrusted,
    query.QueryDirectoryResponse.decode_untrusted,
    query.QueryInfoRequest.decode_untrusted,
    query.QueryInfoResponse.decode_untrusted,
    query.SetInfoRequest.decode_untrusted,
    query.SetInfoResponse.decode_untrusted,
    notify.ChangeNotifyRequest.decode_untrusted,
    notify.ChangeNotifyResponse.decode_untrusted,
    notify.OplockBreak.decode_untrusted,
    notify.LeaseBreakNotification.decode_untrusted,
    notify.LeaseBreakAcknowledgement.decode_untrusted,
    notify.decode_break_notification_untrusted,
    notify.decode_break_acknowledgement_untrusted,
)

_CONTEXTS: Final = (
    negotiate.PreauthIntegrityCapabilities.decode_untrusted,
    negotiate.EncryptionCapabilities.decode_untrusted,
    negotiate.CompressionCapabilities.decode_untrusted,
    negotiate.NetnameNegotiateContextId.decode_untrusted,
    negotiate.TransportCapabilities.decode_untrusted,
    negotiate.RdmaTransformCapabilities.decode_untrusted,
    negotiate.SigningCapabilities.decode_untrusted,
    create_contexts.decode_request_contexts_untrusted,
    create_contexts.decode_response_contexts_untrusted,
    create_contexts.EaBuffer.decode_untrusted,
    create_contexts.SecurityDescriptorBuffer.decode_untrusted,
    create_contexts.DurableHandleRequest.decode_untrusted,
    create_contexts.DurableHandleResponse.decode_untrusted,
    create_contexts.DurableHandleReconnect.decode_untrusted,
    create_contexts.AllocationSize.decode_untrusted,
    create_contexts.QueryMaximalAccessRequest.decode_untrusted,
    create_contexts.QueryMaximalAccessResponse.decode_untrusted,
    create_contexts.TimewarpToken.decode_untrusted,
    create_contexts.QueryOnDiskIdRequest.decode_untrusted,
    create_contexts.QueryOnDiskIdResponse.decode_untrusted,
    create_contexts.Lease.decode_untrusted,
    create_contexts.LeaseV2.decode_untrusted,
    create_contexts.DurableHandleRequestV2.decode_untrusted,
    create_contexts.DurableHandleResponseV2.decode_untrusted,
    create_contexts.DurableHandleReconnectV2.decode_untrusted,
    create_contexts.AppInstanceId.decode_untrusted,
    create_contexts.AppInstanceVersion.decode_untrusted,
    create_contexts.PosixRequest.decode_untrusted,
    create_contexts.PosixResponse.decode_untrusted,
)

_INFORMATION: Final = (
    fscc.FileBasicInformation.decode_untrusted,
    fscc.FileStandardInformation.decode_untrusted,
    fscc.FileInternalInformation.decode_untrusted,
    fscc.FileIdInformation.decode_untrusted,
    fscc.FileEaInformation.decode_untrusted,
    fscc.FileAccessInformation.decode_untrusted,
    fscc.FilePositionInformation.decode_untrusted,
    fscc.FileModeInformation.decode_untrusted,
    fscc.FileAlignmentInformation.decode_untrusted,
    fscc.FileAttributeTagInformation.decode_untrusted,
    fscc.FileCompressionInformation.decode_untrusted,
    fscc.FileNetworkOpenInformation.decode_untrusted,
    fscc.FileAllInformation.decode_untrusted,
    fscc.FileNormalizedNameInformation.decode_untrusted,
    fscc.FileAlternateNameInformation.decode_untrusted,
    fscc_ea.FileFullEaInformation.decode_untrusted,
    fscc_ea.decode_full_eas_untrusted,
    fscc_ea.decode_get_eas_untrusted,
    fscc_pipe.FilePipeInformation.decode_untrusted,
    fscc_pipe.FilePipeLocalInformation.decode_untrusted,
    fscc_pipe.PipeWaitRequest.decode_untrusted,
    fscc_quota.FileQuotaInformation.decode_untrusted,
    fscc_quota.QueryQuotaInfo.decode_untrusted,
    fscc_quota.decode_quotas_untrusted,
    fscc_quota.decode_get_quotas_untrusted,
    fscc_set.FileEndOfFileInformation.decode_untrusted,
    fscc_set.FileAllocationInformation.decode_untrusted,
    fscc_set.FileValidDataLengthInformation.decode_untrusted,
    fscc_set.FileDispositionInformation.decode_untrusted,
    fscc_set.FileDispositionInformationEx.decode_untrusted,
    fscc_set.FileRenameInformation.decode_untrusted,
    fscc_set.FileRenameInformationEx.decode_untrusted,
    fscc_set.FileLinkInformation.decode_untrusted,
    fscc_set.FileLinkInformationEx.decode_untrusted,
    fscc_stream.FileStreamInformation.decode_untrusted,
    fscc_stream.decode_streams_untrusted,
    fscc_volume.FileFsVolumeInformation.decode_untrusted,
    fscc_volume.FileFsSizeInformation.decode_untrusted,
    fscc_volume.FileFsFullSizeInformation.decode_untrusted,
    fscc_volume.FileFsAttributeInformation.decode_untrusted,
    fscc_volume.FileFsDeviceInformation.decode_untrusted,
    fscc_volume.FileFsControlInformation.decode_untrusted,
    fscc_volume.FileFsSectorSizeInformation.decode_untrusted,
    fscc_volume.FileFsObjectIdInformation.decode_untrusted,
    security.Sid.decode_untrusted,
    security.Ace.decode_untrusted,
    security.Acl.decode_untrusted,
    security.SecurityDescriptor.decode_untrusted,
)

_CONTROLS: Final = (
    ioctl.ValidateNegotiateInfoRequest.decode_untrusted,
    ioctl.ValidateNegotiateInfoResponse.decode_untrusted,
    ioctl.NetworkInterfaceInfo.decode_untrusted,
    ioctl.decode_network_interfaces_untrusted,
    ioctl.ResumeKeyResponse.decode_untrusted,
    ioctl.CopyChunkRequest.decode_untrusted,
    ioctl.CopyChunkResponse.decode_untrusted,
    ioctl.SnapshotsResponse.decode_untrusted,
    ioctl.NetworkResiliencyRequest.decode_untrusted,
    fscc_control.SetSparseRequest.decode_untrusted,
    fscc_control.SetZeroDataRequest.decode_untrusted,
    fscc_control.decode_allocated_ranges_untrusted,
    fscc_control.FileLevelTrimRequest.decode_untrusted,
    fscc_control.FileLevelTrimResponse.decode_untrusted,
    fscc_control.DuplicateExtentsRequest.decode_untrusted,
    reparse.decode_reparse_untrusted,
    reparse.SymbolicLink.decode_data_untrusted,
    reparse.MountPoint.decode_data_untrusted,
    reparse.NfsSpecialFile.decode_data_untrusted,
    reparse.LxSymlink.decode_data_untrusted,
    dfs.DfsReferralRequest.decode_untrusted,
    dfs.DfsReferralRequestEx.decode_untrusted,
    dfs.DfsReferralResponse.decode_untrusted,
    ntlm_challenge.ChallengeMessage.decode_untrusted,
)

_REST: Final = (
    header.Header.decode_untrusted,
    error.SymbolicLinkErrorResponse.decode_untrusted,
    error.decode_required_length_untrusted,
    transform.frame_kind_untrusted,
    transform.TransformHeader.decode_untrusted,
    transform.CompressionTransformHeader.decode_untrusted,
    primitives.decode_utf16_untrusted,
    primitives.EmptyBody.decode_untrusted,
)

WIRE_TARGETS: Final = (
    *(of_view(decoder) for decoder in (*_MESSAGES, *_CONTEXTS, *_INFORMATION, *_CONTROLS, *_REST)),
    Target("wire.error.ErrorResponse", _details, covers=covering(error.ErrorResponse.decode_untrusted)),
    Target("wire.header.compound", _compound, covers=covering(header.split_compound_untrusted)),
    Target("wire.fscc_chain", _chain, covers=covering(fscc_chain.split_chain_untrusted)),
    Target("wire.fscc_directory", _directory, covers=covering(fscc_directory.decode_directory_untrusted)),
)  # fmt: skip
